"""One worker process: started, signalled, reaped. Knows nothing of seats and models.

The child gets the read end of a pipe with a secret in it. We keep the write end: when this
process dies by any means the pipe ends and the worker goes.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from hotseat.protocol.ids import Epoch
from hotseat.supervisor.machine.child_exit import ended
from hotseat.supervisor.machine.leftover_processes import VARIABLE, end_leftovers

COMMAND_VARIABLE: Final = "HOTSEAT_WORKER_COMMAND"
"""JSON list that replaces `[python, -m, hotseat.worker]`; how tests put a stub in its place."""
STDERR_LINES: Final = 200
REAP_POLL_S: Final = 0.001
STACKS_S: Final = 0.5
STACKS_QUIET_S: Final = 0.05
"""A dump is over when nothing more came for so long."""
log = structlog.get_logger()
_PASSED: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "USER", "LOGNAME")
_PASSED_PREFIXES: Final = (
    "HOTSEAT_",
    "MLX_",
    "OMP_",
    "OPENBLAS_",
    "LD_PRELOAD",
    "PYTHON",
    "AGX_",
    "MTL_",
    "METAL_",
)
_MAC_DEFAULTS: Final = {"MLX_METAL_RESIDENCY_REFRESH_INTERVAL_MS": "1000"}
"""macOS unwires what the GPU has not used for a second; mlx reads it when it opens the device."""


class WorkerExit(Struct, frozen=True, kw_only=True):
    """How a worker ended. `returncode` is negative for a signal; `sent` are signals we sent."""

    epoch: Epoch
    pid: int
    returncode: int
    sent: tuple[int, ...]
    stderr: tuple[str, ...]
    leftovers: tuple[int, ...] = ()
    """Processes that it had left behind and that were ended after it."""


class WorkerProcess:
    """A started worker. `secret` is what it has to show in its hello."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        epoch: Epoch,
        secret: str,
        pipe_fd: int,
        mark: str,
        on_exit: Callable[[WorkerExit], None],
    ) -> None:
        self.epoch = epoch
        self.secret = secret
        self.pid = process.pid
        self._process = process
        self._pipe_fd = pipe_fd
        self._mark = mark
        self._sent: list[int] = []
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._lines = 0
        self._watch = asyncio.create_task(self._reap(on_exit), name=f"worker-{epoch}")

    @property
    def stderr_tail(self) -> tuple[str, ...]:
        """Its last lines on stderr."""
        return tuple(self._stderr)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to our own child only; an ended one is left alone."""
        if self._process.returncode is not None:
            return
        self._sent.append(int(number))
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def dump_stacks(self) -> tuple[str, ...]:
        """What the worker's fault handler writes when asked; nothing if it cannot any more."""
        before = seen = self._lines
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + STACKS_S
        while time.monotonic() < deadline and self._process.returncode is None:
            await asyncio.sleep(STACKS_QUIET_S)
            if self._lines > before and self._lines == seen:
                break
            seen = self._lines
        return tuple(self._stderr)[-(self._lines - before) :] if self._lines > before else ()

    async def wait(self) -> None:
        """Returns when the process is reaped, its end was reported and what it left is gone."""
        await asyncio.shield(self._watch)

    async def _reap(self, on_exit: Callable[[WorkerExit], None]) -> None:
        assert self._process.stderr is not None  # noqa: S101 - started with a pipe
        reading = asyncio.create_task(self._read_stderr(self._process.stderr))
        returncode = await self._wait_reaped()
        # Of one that ended out of order before anybody is told: what it left may hold its memory,
        # and our end of its stderr. Else no swap waits for a walk over all processes.
        is_orderly = returncode == 0
        leftovers = [] if is_orderly else await self._end_leftovers()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, 0.2)
        os.close(self._pipe_fd)
        on_exit(
            WorkerExit(
                epoch=self.epoch,
                pid=self.pid,
                returncode=returncode,
                sent=tuple(self._sent),
                stderr=self.stderr_tail,
                leftovers=tuple(leftovers),
            )
        )
        if is_orderly and (late := await self._end_leftovers()):
            log.warning("worker.left_processes", epoch=self.epoch, kin=late)

    async def _end_leftovers(self) -> list[int]:
        return await asyncio.to_thread(end_leftovers, self._mark)

    async def _wait_reaped(self) -> int:
        try:
            await ended(self.pid)
        except OSError:
            return await self._process.wait()
        while self._process.returncode is None:  # noqa: ASYNC110 - it has no event for that alone
            await asyncio.sleep(REAP_POLL_S)  # its watcher reaps it at this moment
        return self._process.returncode

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # a line longer than the buffer: its rest follows
            if not line:
                return
            self._lines += 1
            self._stderr.append(line.decode(errors="replace").rstrip()[:2000])


async def spawn_worker(
    link: Path,
    epoch: Epoch,
    on_exit: Callable[[WorkerExit], None],
    mark: str,
    inherit_fds: tuple[int, ...] = (),
) -> WorkerProcess:
    """Starts a fresh interpreter. Raises OSError when the command cannot be started.

    `link` is the path of the socket where it is listened to. `mark` is how processes are known
    that come from this worker (`machine/leftover_processes.py`).

    The worker stays in our process group: launchd ends that group when the daemon dies.
    """
    secret = secrets.token_hex(16)
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, secret.encode())
        process = await asyncio.create_subprocess_exec(
            *worker_command(),
            "--link",
            str(link),
            "--epoch",
            str(epoch),
            "--token-fd",
            str(read_fd),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(read_fd, *inherit_fds),
            env=worker_environment() | {VARIABLE: mark},
        )
    except BaseException:
        os.close(write_fd)
        raise
    finally:
        os.close(read_fd)
    return WorkerProcess(process, epoch, secret, write_fd, mark, on_exit)


def worker_command() -> list[str]:
    """What to start."""
    override = os.environ.get(COMMAND_VARIABLE)
    if override:
        return [str(part) for part in json.loads(override)]
    return [sys.executable, "-m", "hotseat.worker"]


def worker_environment(platform: str = sys.platform) -> dict[str, str]:
    """Few variables: a worker must not depend on the shell the daemon was started from."""
    kept = _MAC_DEFAULTS if platform == "darwin" else {}
    kept = kept | {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    # No model hub is ever asked at run time, and tokenizers must not fork-warn.
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
