"""How models and memory plans look to a person."""

from collections.abc import Sequence

from hotseat.cli.terminal.output import count, note, print_facts, print_table, size
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.views import ModelView, PlanView

ModelsAnswer = tuple[bool, list[ModelView], str]


def absent_models(error: DaemonUnreachable) -> ModelsAnswer:
    """What stands for the answer of a daemon that does not run."""
    return False, [], error.message


def render_models(views: Sequence[ModelView], reason: str) -> None:
    """One row per model, then why some cannot be used."""
    if reason:
        note(reason)
        return
    if not views:
        print("no models; register one with `hotseat import SOURCE`")
        return
    print_table(
        (
            "NAME",
            "STATE",
            "ARCHITECTURE",
            "QUANTISATION",
            "WEIGHTS ",
            "CONTEXT ",
            "KV/TOKEN ",
            "CUTS BY",
        ),
        [
            (
                view.name,
                view.state,
                view.architecture,
                view.quantisation,
                size(view.weights_bytes),
                count(view.context_tokens),
                size(view.kv_bytes_per_token),
                _cuts(view),
            )
            for view in views
        ],
    )
    for view in views:
        if view.reason:
            note(f"{view.name}: {view.reason}")


def render_plan(view: PlanView) -> None:
    """The terms of the plan, the one that binds, and what fits."""
    print_facts(
        [
            ("model", view.model),
            ("fits", "yes" if view.fits else f"no: {view.reason}"),
            ("remedy", view.remedy),
            ("notice", view.notice),
            ("RAM", _ram(view)),
            ("limited by", view.limited_by),
            ("reserve", size(view.reserve_bytes)),
            ("working set", size(view.working_set_bytes)),
            ("limit", f"{size(view.limit_bytes)}, set by {view.binding}"),
            ("weights", size(view.weights_bytes)),
            ("overhead", _overhead(view)),
            ("standby", size(view.standby_bytes)),
            ("prefill peak", size(view.prefill_peak_bytes)),
            ("KV budget", size(view.kv_budget_bytes)),
            ("KV per token", size(view.kv_bytes_per_token)),
            ("windows", size(view.window_bytes) if view.window_bytes else ""),
            ("state", f"{size(view.state_bytes)} a session" if view.state_bytes else ""),
            ("context", _context(view)),
        ]
    )
    if view.sessions:
        print()
        print_table(
            ("CONTEXT ", "SESSIONS AT ONCE ", "KV EACH "),
            [
                (count(fit.context_tokens), count(fit.sessions), size(fit.bytes_per_session))
                for fit in view.sessions
            ],
        )
    if view.holders:
        print()
        print_table(
            ("OTHER PROGRAM", "HOLDS "), [(name, size(held)) for name, held in view.holders]
        )


def _cuts(view: ModelView) -> str:
    """Where a context can be cut back to, and whether requests share a batch."""
    if view.capabilities is None:
        return "-"
    alone = "" if view.capabilities.batches else ", one per batch"
    return f"{view.capabilities.cuts}{alone}"


def _ram(view: PlanView) -> str:
    if view.what_if:
        return f"{size(view.total_bytes)}, on a machine where nothing else runs"
    return f"{size(view.total_bytes)}, {size(view.available_bytes)} available"


def _overhead(view: PlanView) -> str:
    return f"{size(view.overhead_bytes)} ({'measured' if view.overhead_measured else 'assumed'})"


def _context(view: PlanView) -> str:
    words = (
        f"{count(view.context_tokens)} tokens, {count(view.max_context_tokens)} fit in one session"
    )
    if view.streamed_context_tokens > view.max_context_tokens:
        words += f", up to {count(view.streamed_context_tokens)} read from the disk, slowly"
    return words
