"""The worker process around an engine: guards, secret, link, compute loop, exit code.

Must not import mlx (the engine is built by a callable) and must not know what an engine does
with a message.
"""

import argparse
import faulthandler
import os
import queue
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from hotseat.protocol import failpoints
from hotseat.protocol.exits import (
    EX_GPU,
    EX_INTERNAL,
    EX_LIBRARIES,
    EX_OK,
    EX_OUT_OF_MEMORY,
    EX_USAGE,
    EX_WEIGHTS,
)
from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import REST_BEAT_S
from hotseat.protocol.link_orders import Stop, ToWorker
from hotseat.protocol.link_reports import Beat, FromWorker, Stopped, WorkerHello
from hotseat.worker.dying import GpuLostError, WeightsLostError, tells_of_gpu, tells_of_memory
from hotseat.worker.link.port import Inbox, SupervisorLink
from hotseat.worker.orphan import (
    SecretMissingError,
    die_with_parent,
    exit_at_end_of_pipe,
    read_secret,
    rearm_watchdog,
)

BUSY_POLL_S: Final = 0.01
IDLE_POLL_S: Final = 0.5
SWITCH_S: Final = 0.0005
"""Beats and orders must not wait while the next step's graph is built."""
MACOS_WATCHDOG_S: Final = 60.0
"""Linux has the parent-death signal; macOS has nothing else once native code keeps the GIL.

A Mac that swaps was seen to freeze threads for tens of seconds. How short memory is cannot be asked
when it fires: the timer is one of C, since no Python runs by then.
"""


class Arguments(Struct, frozen=True, kw_only=True):
    """Command line of a worker. `watchdog_s` 0 is off."""

    link: str
    epoch: Epoch
    token_fd: int
    watchdog_s: float = 0.0


class ComputeEngine(Protocol):
    """What the compute loop drives. All but `beat` are called on the main thread only."""

    def handle(self, message: ToWorker) -> None:
        """Takes a message; ends up in messages sent, now or in later steps."""

    def step(self) -> bool:
        """Does one bounded piece of work; False if there was none."""

    def beat(self) -> Beat:
        """The state for the next beat; called from the link thread too."""

    def unwire(self) -> None:
        """The process ends: nothing of it may stay wired."""


BuildEngine = Callable[[Callable[[FromWorker], None], Epoch, Callable[[], None]], ComputeEngine]
"""`(send, epoch, wake) -> engine`; `wake` makes a waiting compute loop call `step`."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Exits with 2 and a usage line for anything else."""
    parser = argparse.ArgumentParser(prog="hotseat-worker", description="Started by hotseat.")
    parser.add_argument("--link", required=True)
    parser.add_argument("--epoch", required=True, type=int)
    parser.add_argument("--token-fd", required=True, type=int)
    default = MACOS_WATCHDOG_S if sys.platform == "darwin" else 0.0
    parser.add_argument("--watchdog-s", default=default, type=float)
    found = parser.parse_args(argv)
    return Arguments(
        link=found.link,
        epoch=Epoch(found.epoch),
        token_fd=found.token_fd,
        watchdog_s=found.watchdog_s,
    )


def run_worker(
    arguments: Arguments,
    load_libraries: Callable[[str], WorkerHello],
    build_engine: BuildEngine,
) -> int:
    """Runs until Stopped was sent or something ends the process; returns the exit code.

    `load_libraries` takes the secret; what the hello tells is known once they are imported.
    """
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    faulthandler.enable()
    # In C: it writes also while native code keeps the GIL.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    die_with_parent()
    inbox: Inbox = queue.SimpleQueue()
    _install_signals(inbox)
    try:
        secret = read_secret(arguments.token_fd)
    except SecretMissingError as error:
        _complain(str(error))
        return EX_USAGE
    exit_at_end_of_pipe(arguments.token_fd)
    try:
        hello = load_libraries(secret)
    except MemoryError:
        _complain("no memory for the libraries")
        return EX_OUT_OF_MEMORY
    except ImportError as error:
        _complain(f"cannot import the libraries: {error}; install the extra `worker`")
        return EX_LIBRARIES
    return _ComputeLoop(arguments, inbox, build_engine).run(hello)


def exit_process(code: int) -> None:
    """Ends without destructors: everything durable is written, memory goes back to the OS."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_code_of(error: BaseException) -> int:
    """EX_OUT_OF_MEMORY for a failed allocation, EX_GPU for an error of Metal.

    mlx has no class for either: both are a RuntimeError.
    """
    if isinstance(error, WeightsLostError):
        return EX_WEIGHTS
    if isinstance(error, GpuLostError):
        return EX_GPU
    if isinstance(error, MemoryError):
        return EX_OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and tells_of_memory(str(error)):
        return EX_OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and tells_of_gpu(str(error)):
        return EX_GPU
    return EX_INTERNAL


class _ComputeLoop:
    """Inbox, then one step, then wait; on the thread that calls `run`."""

    def __init__(self, arguments: Arguments, inbox: Inbox, build_engine: BuildEngine) -> None:
        self._is_stopped = False
        self._watchdog_s = arguments.watchdog_s
        self._inbox = inbox
        self._port = SupervisorLink(
            arguments.link,
            arguments.epoch,
            self._beat,
            inbox=inbox,
            rest_s=_rest_s(self._watchdog_s),
            on_beat=self._rearm if self._watchdog_s > 0 else None,
        )
        self._engine = build_engine(self._send, arguments.epoch, self._port.wake)

    def run(self, hello: WorkerHello) -> int:
        self._send(hello)
        self._port.start()
        try:
            while not self._is_stopped:
                self._turn()
        except Exception as error:  # noqa: BLE001 - task root of the process
            code = exit_code_of(error)
            if code == EX_WEIGHTS:
                _complain(str(error))  # quoted to people; where it was noticed says nothing
            else:
                traceback.print_exc()
        else:
            code = EX_OK
        self._unwire(code)
        # The engine is not closed: all it had put is written before it says Stopped, and the end
        # of the process gives memory back faster than freeing it here, while the next model waits.
        # A worker that fails still delivers what it had reported: files on disk are facts.
        self._port.close()
        return code

    def _unwire(self, code: int) -> None:
        """On every way out but that of a lost GPU, which would not answer."""
        if code == EX_GPU:
            return
        try:
            self._engine.unwire()
        except Exception:  # noqa: BLE001 - it ends all the same
            traceback.print_exc()

    def _send(self, message: FromWorker) -> None:
        if failpoints.ARMED:
            failpoints.reach(f"worker.tells.{type(message).__name__}")
        self._port.send(message)
        if isinstance(message, Stopped):
            self._is_stopped = True
            self._port.wake()

    def _turn(self) -> None:
        while (message := self._next(0.0)) is not None:
            self._handle(message)
        if self._is_stopped or self._engine.step():
            return
        wait_s = BUSY_POLL_S if self._engine.beat().busy else IDLE_POLL_S
        message = self._next(wait_s)
        if message is not None:
            self._handle(message)

    def _handle(self, message: ToWorker) -> None:
        if failpoints.ARMED:
            failpoints.reach(f"worker.takes.{type(message).__name__}")
        self._engine.handle(message)

    def _next(self, wait_s: float) -> ToWorker | None:
        try:
            return self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _beat(self) -> Beat:
        return self._engine.beat()

    def _rearm(self) -> None:
        rearm_watchdog(self._watchdog_s)


def _rest_s(watchdog_s: float) -> float:
    """Between two beats at rest: each re-arms the watchdog, which must never fire in between."""
    return min(REST_BEAT_S, watchdog_s / 3) if watchdog_s > 0 else REST_BEAT_S


def _install_signals(inbox: Inbox) -> None:
    """SIGTERM asks for a stop at the next boundary; terminal signals are the supervisor's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # SimpleQueue.put is reentrant, so a handler may call it.
    signal.signal(signal.SIGTERM, lambda _number, _frame: inbox.put(Stop()))


def _complain(text: str) -> None:
    sys.stderr.write(f"worker: {text}\n")
