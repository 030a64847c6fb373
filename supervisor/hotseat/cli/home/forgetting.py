"""Removes the sessions of an agent, of long ago, or all, and tells what stays."""

import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hotseat.cli.views.forgetting import Forgotten
from hotseat.client import Client
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import SessionView

_DAY_S: Final = 24 * 3600.0


class Chosen(Struct, frozen=True, kw_only=True):
    """Which sessions; None: whoever's, however young."""

    agent: str | None = None
    older_days: float | None = None


def forget_sessions(client: Client, chosen: Chosen, *, is_asked: bool) -> Forgotten:
    """What went, or would go unless `is_asked`. A session that is busy by now stays."""
    views = sessions_chosen(_all_sessions(client), chosen, time.time())
    free = [view for view in views if not view.pinned and view.state != "running"]
    stays = [view for view in views if view not in free]
    if not is_asked:
        return Forgotten(done=False, sessions=tuple(free), stays=tuple(stays))
    gone: list[SessionView] = []
    removed_bytes = 0
    for view in free:
        try:
            removed_bytes += client.delete_session(view.model, view.session)
        except HotseatError as error:
            if error.code == "session_busy":
                stays.append(view)
            elif error.code != "session_missing":
                raise
        else:
            gone.append(view)
    return Forgotten(
        done=True,
        sessions=tuple(gone),
        stays=tuple(stays),
        removed_bytes=removed_bytes,
        shared_bytes=sum(tag.unreferenced_bytes for tag in client.disk().tags),
    )


def sessions_chosen(views: Sequence[SessionView], chosen: Chosen, now: float) -> list[SessionView]:
    """The sessions that are meant. `now` is Unix time."""
    return [
        view
        for view in views
        if is_of(view.agent, chosen.agent)
        and (chosen.older_days is None or now - view.used_at > chosen.older_days * _DAY_S)
    ]


def is_of(label: str, agent: str | None) -> bool:
    """Whether a label is this agent's: equal, or with an id of its own behind a slash."""
    return agent is None or label == agent or label.startswith(f"{agent}/")


def _all_sessions(client: Client) -> list[SessionView]:
    """By model: an answer holds a thousand of one, those used last."""
    return [view for model in client.models() for view in client.sessions(model.name)]
