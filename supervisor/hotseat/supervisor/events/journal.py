"""Lifecycle events on their way into the journal, in order. Decides only which of them stay."""

from typing import Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.loop.tasks import TaskSet

TOPICS: Final = ("seat.", "swap.", "worker.", "daemon.")
log = structlog.get_logger()


class JournalWriter:
    """Writes what has to outlive the daemon. The catalogue keeps the order of the calls."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tasks = TaskSet("journal.defect", self._not_written)

    def take(self, event: Event) -> None:
        """An event was published."""
        if event.name.startswith(TOPICS):
            self._tasks.spawn(self._catalogue.journal(event.name, event.facts, event.at))

    async def settle(self) -> None:
        """Returns when everything taken so far is durable, or was refused."""
        await self._tasks.settle()

    @staticmethod
    def _not_written(error: HotseatError) -> None:
        log.warning("journal.not_written", reason=error.message)
