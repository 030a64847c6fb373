"""The sampler's thread: when to take a sample, and the ring of those taken. Measures nothing.

Five times a second while something happens or somebody looks, else every five seconds. A thread
keeps the rhythm because the loop may be late; a sample is a frozen struct and crosses over whole.
"""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from hotseat.protocol.telemetry import Sample

FAST_S: Final = 0.2
SLOW_S: Final = 5.0
RING: Final = 3_000
"""Ten minutes of work; hours of rest."""
NICENESS: Final = 5
"""A sample takes about a millisecond: a token on its way goes first."""
log = structlog.get_logger()


class Sampler:
    """Owns the thread and the ring. `on_sample` is called on the thread."""

    def __init__(
        self,
        take: Callable[[float], Sample],
        is_working: Callable[[], bool],
        on_sample: Callable[[Sample], None],
    ) -> None:
        self._take = take
        self._is_working = is_working
        self._on_sample = on_sample
        self._ring: deque[Sample] = deque(maxlen=RING)
        self._watchers = 0
        self._stir = threading.Event()
        self._is_over = False
        self._is_slow = False
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begins sampling."""
        self._thread.start()

    def close(self) -> None:
        """Returns when the thread has ended."""
        self._is_over = True
        self._stir.set()
        if self._thread.is_alive():
            self._thread.join()

    def kept(self, count: int) -> list[Sample]:
        """The newest samples, oldest first."""
        return list(self._ring)[-count:] if count > 0 else []

    def watch(self) -> None:
        """Somebody looks: sample fast."""
        self._watchers += 1
        self._stir.set()

    def unwatch(self) -> None:
        """One looks no longer."""
        self._watchers = max(0, self._watchers - 1)

    def nudge(self) -> None:
        """Something may have begun: look now, not in five seconds. Costs nothing meanwhile."""
        if self._is_slow:
            self._stir.set()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere the number would mean a process
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        due = time.monotonic()
        while not self._is_over:
            self._sample()
            self._is_slow = not (self._watchers or self._is_working())
            now = time.monotonic()
            # From the time it was due, so that lateness does not add up; after a gap from now on.
            due += SLOW_S if self._is_slow else FAST_S
            if due <= now:
                due = now + FAST_S
            if self._stir.wait(due - now):
                self._stir.clear()
                due = time.monotonic()

    def _sample(self) -> None:
        try:
            sample = self._take(time.time())
            self._ring.append(sample)
            self._on_sample(sample)
        except Exception:  # task root: one reading that fails does not end the watching
            log.exception("sampler.defect")
