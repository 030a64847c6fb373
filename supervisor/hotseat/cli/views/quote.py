"""How prices and causes look to a person."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from hotseat.cli.terminal.output import count, duration, note, print_table, size
from hotseat.cli.views.streamed import streamed_line
from hotseat.protocol.views import QuoteView, WhyView

SHORT_ID: Final = 8
"""Characters of a request's id in a table; `--json` gives all of them."""


def total_s(view: QuoteView) -> float | None:
    """Seconds until the first token; None while a part of it was never measured."""
    parts = (view.queue_s, view.swap_s, view.restore_s, view.prefill_s)
    known = [part for part in parts if part is not None]
    return sum(known) if view.fits and len(known) == len(parts) else None


def cheapest_first(views: Iterable[QuoteView]) -> list[QuoteView]:
    """By total; then those that were never measured; last those that cannot be asked."""

    def place(view: QuoteView) -> tuple[bool, bool, float, str]:
        total = total_s(view)
        return (not view.fits, total is None, total or 0.0, view.model)

    return sorted(views, key=place)


def quote_facts(view: QuoteView) -> dict[str, Any]:
    """The JSON form of a quote, with its total."""
    total = total_s(view)
    rounded = None if total is None else round(total, 3)
    plain: dict[str, Any] = msgspec.to_builtins(view)
    return plain | {"total_s": rounded}


def render_quotes(views: Sequence[QuoteView]) -> None:
    """One row per model that can be asked, one line for each that cannot."""
    fitting = [view for view in views if view.fits]
    if fitting:
        print_table(
            ("MODEL", "SEAT", "TOTAL ", "QUEUE ", "SWAP ", "RESTORE ", "PREFILL ", "STORED "),
            [
                (
                    view.model,
                    "seated" if view.seated else "-",
                    *(_cost(part) for part in (total_s(view), view.queue_s, view.swap_s)),
                    _cost(view.restore_s),
                    _cost(view.prefill_s),
                    f"{count(view.stored_tokens)}/{count(view.prompt_tokens)}",
                )
                for view in fitting
            ],
        )
    for view in views:
        if not view.fits:
            note(f"{view.model}: {view.reason}")
        elif view.streamed is not None:
            note(f"{view.model}: {streamed_line(view.streamed)}")
    if not views:
        print("no models; `hotseat import` registers one")


def render_why(views: Sequence[WhyView]) -> None:
    """One row per swap; a failed one says why on stderr."""
    if not views:
        print("no swaps yet")
        return
    now = time.time()
    print_table(
        ("WHEN ", "FROM", "TO", "COST ", "WRITTEN ", "CLIENT", "REQUEST", "OUTCOME"),
        [
            (
                f"{duration(max(0.0, now - view.at))} ago",
                view.origin or "-",
                view.target or "-",
                "-" if view.total_s is None else duration(view.total_s),
                size(view.bytes_written) or "-",
                view.client,
                view.request_id[:SHORT_ID],
                view.outcome,
            )
            for view in views
        ],
    )
    for view in views:
        if view.reason:
            note(f"{view.request_id[:SHORT_ID]}: {view.reason}")


def _cost(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
