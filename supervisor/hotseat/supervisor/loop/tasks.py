"""Background tasks of the loop: started, guarded, waited for, ended. Must not know what they do.

One text tells people of a defect; what happened stands in the log.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import structlog

from hotseat.protocol.errors import HotseatError

SETTLE_S: Final = 2.0
log = structlog.get_logger()


def defect_of(error: Exception) -> HotseatError:
    """What people are told of an error that nobody foresaw."""
    text = f"defect in hotseat ({type(error).__name__}); see the log"
    return HotseatError("internal", text)


async def outcome(
    job: Coroutine[Any, Any, object], name: str, **facts: object
) -> HotseatError | None:
    """Runs a job to its end: None, or what went wrong. A defect is logged as `name`."""
    try:
        await job
    except HotseatError as error:
        return error
    except Exception as error:  # task root
        log.exception(name, **facts)
        return defect_of(error)
    return None


class TaskSet:
    """The tasks of one part. `failed` is told what went wrong with one of them."""

    def __init__(self, name: str, failed: Callable[[HotseatError], object]) -> None:
        self._name = name
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, job: Coroutine[Any, Any, object]) -> None:
        """Starts a task that nobody has to wait for."""
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Returns when nothing is under way any more, what was begun meanwhile included."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self) -> None:
        """Ends all tasks where they are."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _run(self, job: Coroutine[Any, Any, object]) -> None:
        error = await outcome(job, self._name)
        if error is not None:
            self._failed(error)


class Settling(Protocol):
    """A part that ends things in the background."""

    async def settle(self) -> None:
        """Returns when nothing is on its way any more."""


async def settle(*parts: Settling) -> None:
    """Waits for all parts, each after those before it; a stuck one does not keep the daemon.

    So answers that are on their way become durable and leave in the last moment of a daemon.
    """
    try:
        async with asyncio.timeout(SETTLE_S):
            for part in parts:
                await part.settle()
    except TimeoutError:
        log.warning("daemon.answers_late", waited_s=SETTLE_S)
