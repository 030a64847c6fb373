"""How what was forgotten looks to a person."""

import time

from msgspec import Struct

from hotseat.cli.terminal.output import count, duration, print_table, printable, size
from hotseat.protocol.views import SessionView


class Forgotten(Struct, frozen=True, kw_only=True):
    """`done` False: this would go. `stays`: what was chosen and is pinned or has a turn under way.

    `removed_bytes`: KV that went. `shared_bytes`: KV that no session needs any more and that
    begins other conversations; `kv gc` removes it.
    """

    done: bool
    sessions: tuple[SessionView, ...]
    stays: tuple[SessionView, ...]
    removed_bytes: int = 0
    shared_bytes: int = 0


def render_forgotten(found: Forgotten) -> None:
    """What went or would go, what stays, and the way on."""
    if found.sessions:
        _list(found.sessions)
    many = f"{count(len(found.sessions))} sessions"
    if not found.done:
        print(f"{many} would go with their messages, replies and KV; say --yes to remove them")
    else:
        print(f"removed {many} with messages and replies, and {size(found.removed_bytes)} of KV")
    if found.stays:
        names = ", ".join(f"{view.model}/{printable(view.session)}" for view in found.stays)
        print(f"pinned or in use, stays: {names}")
    print("KV that other sessions begin with too stays for them")
    if found.shared_bytes:
        left = size(found.shared_bytes)
        print(f"{left} of KV belongs to no session and is kept for its next one; `hotseat kv gc`")


def _list(views: tuple[SessionView, ...]) -> None:
    now = time.time()
    rows = [
        (
            view.model,
            printable(view.session),
            printable(view.agent) or "-",
            count(view.turn),
            size(view.bytes_on_disk),
            f"{duration(max(0.0, now - view.used_at))} ago",
        )
        for view in views
    ]
    print_table(("MODEL", "SESSION", "AGENT", "TURNS ", "SIZE ", "USED "), rows)
