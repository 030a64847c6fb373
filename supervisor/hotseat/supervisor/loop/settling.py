"""The last moment of a daemon: answers that are on their way become durable and leave."""

import asyncio
from typing import Final, Protocol

import structlog

SETTLE_S: Final = 2.0
log = structlog.get_logger()


class Settling(Protocol):
    """A part that ends things in the background."""

    async def settle(self) -> None:
        """Returns when nothing is on its way any more."""


async def settle(*parts: Settling) -> None:
    """Waits for all parts, each after those before it; a stuck one does not keep the daemon."""
    try:
        async with asyncio.timeout(SETTLE_S):
            for part in parts:
                await part.settle()
    except TimeoutError:
        log.warning("daemon.answers_late", waited_s=SETTLE_S)
