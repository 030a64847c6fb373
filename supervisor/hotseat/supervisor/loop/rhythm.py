"""The daemon's clocks: they tick fast while anything is under way and once a second at rest.

Knows when to rest and how to wake. It is told what counts as busy; must not know what a tick does.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

REST_S: Final = 1.0
"""Between two ticks at rest; `guards/rules/stalls.py` and `machine/time_awake.py` allow for it."""
SETTLE_S: Final = 2.0
"""After the last stir: what follows from it may show a moment later."""


class Rhythm:
    """Lives on the loop. At rest all clocks wait for one timer, so that the process wakes once."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._stirred_at = time.monotonic()
        self._rest: asyncio.Event | None = None
        self._rested_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def stir(self) -> None:
        """Something came from outside or changed: who rests looks now, and for a while often."""
        self._stirred_at = time.monotonic()
        self._wake()

    def is_resting(self) -> bool:
        """True when nothing is under way and nothing happened for a moment."""
        if self._is_busy():
            self._stirred_at = time.monotonic()
            return False
        return time.monotonic() - self._stirred_at >= SETTLE_S

    async def pause(self, look_s: float) -> None:
        """Returns after `look_s`; at rest when the second is over or something stirs."""
        if not self.is_resting():
            await asyncio.sleep(look_s)
            return
        if self._rest is None:
            self._rest, self._rested_at = asyncio.Event(), time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(REST_S, self._wake)
        await self._rest.wait()

    def take_chance(self) -> None:
        """The process is awake anyway: a rest that is half over ends now, and saves a wake-up."""
        if self._rest is not None and time.monotonic() - self._rested_at >= REST_S / 2:
            self._wake()

    def _wake(self) -> None:
        if self._rest is not None and self._timer is not None:
            self._timer.cancel()
            self._rest.set()
            self._rest = self._timer = None
