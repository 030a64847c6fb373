"""Lifecycle events on their way into the journal, in order. Decides only which of them stay."""

import asyncio
from typing import Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.supervisor.catalogue.store import Catalogue

TOPICS: Final = ("seat.", "swap.", "worker.", "daemon.")
log = structlog.get_logger()


class JournalWriter:
    """Writes what has to outlive the daemon. The catalogue keeps the order of the calls."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, event: Event) -> None:
        """An event was published."""
        if event.name.startswith(TOPICS):
            task = asyncio.get_running_loop().create_task(self._write(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Returns when everything taken so far is durable, or was refused."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, event: Event) -> None:
        try:
            await self._catalogue.journal(event.name, event.facts, event.at)
        except HotseatError as error:
            log.warning("journal.not_written", event_name=event.name, reason=error.message)
