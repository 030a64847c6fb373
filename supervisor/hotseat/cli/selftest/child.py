"""A process that measures: asked by a line, heard until its last one, ended with all it started."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil
from msgspec import Struct

from hotseat.protocol.selftest import MEASURED, Measured

_TERM_S: Final = 8.0
"""A worker whose GPU is busy should not be killed: its daemon gets that long to end it."""
_END_S: Final = 90.0
_POLL_S: Final = 0.05
_PIECE_BYTES: Final = 65536


class ChildLostError(Exception):
    """The process ended before it had said all; `said` is its last line on stderr."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"the process ended with code {code}: {said}")


class Child:
    """In a group and a session of its own, so that Ctrl-C is ours to pass on."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        self.module = module
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._unread = b""

    def ask(self, order: Struct, until: float, tell: Callable[[Measured], None]) -> Measured:
        """Its last line. TimeoutError at `until`, `ChildLostError` when it ends before."""
        assert self._process.stdin is not None  # noqa: S101 - asked for
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._loss() from None
        while True:
            measured = MEASURED.decode(self._line(until))
            if measured.is_last:
                return measured
            tell(measured)

    def close(self, until: float) -> None:
        """Lets it end by itself; what it started and left behind is ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(max(0.0, min(_END_S, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError from None
        self.kill()

    def kill(self) -> None:
        """Ends the group: asked first, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._send(number) and self._wait_gone(_TERM_S):
                break
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, number: signal.Signals) -> bool:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says so of a group of dead ones
            return False
        return True

    def _wait_gone(self, limit_s: float) -> bool:
        until = time.monotonic() + limit_s
        while _lives_in(self._process.pid):
            self._process.poll()
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_S)
        return True

    def _line(self, until: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - asked for
        fd = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
                raise TimeoutError
            piece = os.read(fd, _PIECE_BYTES)
            if not piece:
                raise self._loss()
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _loss(self) -> ChildLostError:
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return ChildLostError(code, lines[-1] if lines else "it said nothing")


def _lives_in(group: int) -> bool:
    """Whether some process of the group still does something."""
    for process in psutil.process_iter(["status"]):
        try:
            is_member = os.getpgid(process.pid) == group
        except (ProcessLookupError, PermissionError):
            continue
        if is_member and process.info["status"] != psutil.STATUS_ZOMBIE:
            return True
    return False
