"""Keys of the gateway as a person reads them."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotseat.cli.terminal.output import print_table

if TYPE_CHECKING:
    from hotseat.gateway.callers import Caller


def render_keys(entries: "Sequence[tuple[Caller, float]]") -> None:
    """One row per key."""
    if not entries:
        print("no keys beside the owner's")
        return
    print_table(
        ("NAME", "MODELS", "PRIORITY", "SWAPS", "WAITING", "SINCE"),
        [
            (
                caller.name,
                ", ".join(caller.models) or "all",
                "-" if caller.priority is None else str(caller.priority),
                "yes" if caller.may_swap else "no",
                "-" if caller.max_waiting is None else str(caller.max_waiting),
                time.strftime("%Y-%m-%d", time.localtime(created_at)),
            )
            for caller, created_at in entries
        ],
    )
