"""How models compare for a purpose, as a person sees it."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from hotseat.cli.terminal.output import count, duration, note, print_table

Purpose = Literal["coding-agent", "chat"]
_ESTIMATED = "~"
_UNKNOWN = "?"


class SwapBeside(Struct, frozen=True, kw_only=True):
    """Sharing the seat with another registered model: seconds to it, and from it back.

    None: no swap was ever measured. One that was never seated counts as the mean of the others.
    """

    model: str
    there_s: float | None
    back_s: float | None


class Advice(Struct, frozen=True, kw_only=True):
    """A model that fits, and how it does for the purpose; seconds."""

    name: str
    is_registered: bool
    parameters: int
    context_tokens: int
    """Longest session beside its weights, if nothing else ran on this machine."""
    tools: Literal["yes", "no", "unknown"]
    first_prompt_s: float | None
    """To the first token of 20,000 that are new to it; None: nothing was ever measured here."""
    basis: str
    """`measured`, or what the estimate is made of."""
    swaps: tuple[SwapBeside, ...]
    lacks: tuple[str, ...]
    """What the purpose wants and it has not; empty: suitable."""
    path: str


def render_advice(purpose: str, advice: Sequence[Advice]) -> None:
    """The most suitable first, with what each lacks; estimates are marked."""
    if not advice:
        print(f"no model that fits was found for {purpose}; `hotseat pull REPO` fetches one")
        return
    print_table(
        ("MODEL", "STATE", "CONTEXT ", "20K PROMPT ", "TOOLS", "SWAP ", "LACKS"),
        [
            (
                one.name,
                "registered" if one.is_registered else "new",
                count(one.context_tokens),
                _first_prompt(one),
                one.tools,
                _swap(one),
                ", ".join(one.lacks),
            )
            for one in advice
        ],
    )
    bases = {one.basis for one in advice if one.basis not in ("", "measured")}
    for basis in sorted(bases):
        note(f"{_ESTIMATED} {basis}")
    if any(one.first_prompt_s is None for one in advice):
        note(f"{_UNKNOWN} nothing was measured here yet: it takes one turn of any model")


def _first_prompt(one: Advice) -> str:
    if one.first_prompt_s is None:
        return _UNKNOWN
    mark = "" if one.basis == "measured" else _ESTIMATED
    return f"{mark}{duration(one.first_prompt_s)}"


def _swap(one: Advice) -> str:
    """The dearest way back to it."""
    known = [swap.back_s for swap in one.swaps if swap.back_s is not None]
    if not one.swaps:
        return "-"
    return duration(max(known)) if known else _UNKNOWN
