"""Named points at which a test makes this process fail. Without HOTSEAT_FAILPOINTS: nothing.

The variable is read once, when this module is imported. Its value is a JSON list of `Failpoint`.
Callers guard with `if failpoints.ARMED`, so that an unarmed point costs one attribute. Must not
know what happens at its points.
"""

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

VARIABLE: Final = "HOTSEAT_FAILPOINTS"
_SLEEP_FOREVER_S: Final = 3600.0

WORKER_SWAP_POINTS: Final = (
    "worker.takes.Suspend",
    "worker.tells.Suspended",
    "worker.takes.Checkpoint",
    "kv.writing",
    "kv.synced",
    "kv.published",
    "worker.tells.TailWritten",
    "worker.tells.Checkpointed",
    "worker.takes.Stop",
    "worker.tells.Stopped",
    "worker.tells.WorkerHello",
    "worker.takes.Load",
    "worker.tells.LoadProgress",
    "worker.tells.Loaded",
    "worker.takes.Warm",
    "worker.tells.Warmed",
    "worker.takes.Start",
    "worker.tells.Lookup",
    "worker.takes.Known",
    "worker.tells.Started",
)
"""What a worker passes in a swap with a suspended request, in this order: out, in, back."""

SUPERVISOR_SWAP_POINTS: Final = (
    "swap.accepted",
    "seat.draining",
    "seat.does.StopAdmission",
    "seat.does.SuspendRunning",
    "suspension.kept",
    "seat.checkpointing",
    "seat.does.SendCheckpoint",
    "tail.reported",
    "tail.committed",
    "seat.stopping",
    "seat.does.AskStop",
    "seat.reclaiming",
    "seat.does.AwaitMemory",
    "seat.starting",
    "seat.does.Spawn",
    "seat.loading",
    "seat.does.SendLoad",
    "seat.warming",
    "seat.does.SendWarm",
    "seat.ready",
    "seat.does.SwapDone",
    "swap.stored",
)
"""The same on the supervisor's side."""

OTHER_POINTS: Final = (
    "worker.decodes",
    "worker.tells.Emitted",
    "worker.tells.BlockWritten",
    "worker.tells.Finished",
    "accept.stored",
    "turn.stored",
    "catalogue.committing",
    "catalogue.committed",
    "endpoint.written",
    "recovery.begun",
)
POINTS: Final = frozenset(WORKER_SWAP_POINTS + SUPERVISOR_SWAP_POINTS + OTHER_POINTS)


class Failpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens at a point. It happens once in a process, the `nth` time the point is reached.

    `token`: only while this file exists; it is used up, so that one of several processes, or of
    several starts, fails. `error` names an errno, or is what a RuntimeError of mlx says. `bytes` is
    how much of a torn write gets through before the kill.
    """

    at: str
    do: Literal["raise", "exit", "kill", "sleep", "hang", "torn"]
    nth: int = 1
    token: str = ""
    error: str = "EIO"
    code: int = 1
    signal: int = signal.SIGKILL
    seconds: float = 0.0
    bytes: int = 0


class Failpoints:
    """The armed points of this process; any thread may reach one."""

    def __init__(self, armed: list[Failpoint]) -> None:
        unknown = sorted({point.at for point in armed} - POINTS)
        if unknown:
            raise ValueError(f"{VARIABLE} names unknown points: {', '.join(unknown)}")
        self._armed = {point.at: point for point in armed}
        self._left = {point.at: point.nth for point in armed}
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Fails here if this point is armed for it. Raises for `raise`."""
        point = self._due(name, torn=False)
        if point is not None:
            _fail(point)

    def torn_bytes(self, name: str) -> int | None:
        """How much of the write at this point gets through; None: all of it. Then `die`."""
        point = self._due(name, torn=True)
        return None if point is None else point.bytes

    def _due(self, name: str, *, torn: bool) -> Failpoint | None:
        point = self._armed.get(name)
        if point is None or (point.do == "torn") is not torn:
            return None
        with self._lock:
            if self._left[name] <= 0:
                return None
            if point.token and not Path(point.token).exists():
                return None
            self._left[name] -= 1
            return point if self._left[name] == 0 and _use_up(point.token) else None


def die() -> None:
    """What SIGKILL does: no handler, no destructor."""
    os.kill(os.getpid(), signal.SIGKILL)


def _use_up(token: str) -> bool:
    if not token:
        return True
    try:
        Path(token).unlink()
    except FileNotFoundError:
        return False  # another process was faster
    return True


def _fail(point: Failpoint) -> None:
    match point.do:
        case "raise" if not hasattr(errno, point.error):
            raise RuntimeError(point.error)
        case "raise":
            number = getattr(errno, point.error)
            raise OSError(number, f"{os.strerror(number)} (failpoint {point.at})")
        case "exit":
            os._exit(point.code)
        case "kill":
            os.kill(os.getpid(), point.signal)
        case "sleep":
            time.sleep(point.seconds)
        case "hang":
            while True:
                time.sleep(_SLEEP_FOREVER_S)
        case "torn":
            pass  # only where bytes are written


def _read_environment() -> Failpoints:
    text = os.environ.get(VARIABLE, "")
    return Failpoints(msgspec.json.decode(text, type=list[Failpoint]) if text else [])


_POINTS: Final = _read_environment()
ARMED: Final = bool(os.environ.get(VARIABLE))
reach: Final = _POINTS.reach
torn_bytes: Final = _POINTS.torn_bytes
