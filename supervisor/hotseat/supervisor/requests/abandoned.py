"""Requests that nobody reads any more: how long they are kept, as their `on_vanish` says."""

import time
from typing import Final

import structlog

from hotseat.protocol.ids import RequestKey
from hotseat.supervisor.requests.works import Work, Works

HOLD_S: Final = 60.0
"""How long a session's request without a reader goes on before it is cancelled."""
RETURN_S: Final = 0.5
"""The same for work that is to be cancelled: who lost only the connection is back by then."""
log = structlog.get_logger()


class Abandoned:
    """Remembers until when; cancels nothing itself."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self._until: dict[RequestKey, float] = {}

    def note(self, work: Work) -> None:
        """The last reader of a work is gone."""
        default = "cancel" if work.request.session is None else "hold"
        policy = work.request.on_vanish or default
        log.info("request.abandoned", request=work.request_id, policy=policy)
        if policy != "finish":
            kept_s = RETURN_S if policy == "cancel" else HOLD_S
            self._until[work.key] = time.monotonic() + kept_s

    def take_overdue(self, now: float) -> list[Work]:
        """Works to cancel, each told once; those that are read again are forgotten."""
        overdue = []
        for key, until in tuple(self._until.items()):
            work = self._works.get(key)
            if work is None or work.readers or work.end is not None:
                del self._until[key]
            elif now >= until:
                del self._until[key]
                overdue.append(work)
        return overdue
