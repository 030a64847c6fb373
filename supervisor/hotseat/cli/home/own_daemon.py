"""A daemon in a home of its own, beside that of the user: for the demonstration, the selftest."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hotseat.client.endpoint import read_endpoint
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.discovery import ENDPOINT_VARIABLE, HOME_VARIABLE
from hotseat.protocol.errors import HotseatError

START_POLLS: Final = 600
POLL_S: Final = 0.05
STOP_S: Final = 60.0
_SEAT_VARIABLE: Final = "HOTSEAT_SEAT_LOCK"


class OwnDaemon:
    """Started, stopped and started again in one home, with a lock of its own for the seat."""

    def __init__(
        self, home: Path, seat_lock: Path, log: Path, *, within: Sequence[str] = ()
    ) -> None:
        """`within`: a command that begins with it runs the rest of it, as the same process."""
        self._command = [*within, sys.executable, "-m", "hotseat.supervisor"]
        self._home = home
        self._seat_lock = seat_lock
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while it is ours."""
        return None if self._process is None else self._process.pid

    def start(self, **variables: str) -> str:
        """Where its clients find it. `variables` are added to its environment."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        for _ in range(START_POLLS):
            with contextlib.suppress(DaemonUnreachable):
                endpoint = read_endpoint(self._home)
                if endpoint.pid == self._process.pid:
                    return endpoint.requests
            if self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        raise HotseatError("daemon_unreachable", "a daemon of its own did not start")

    def stop(self) -> None:
        """Ends it in order, so that its contexts are on disk; kills it if that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != ENDPOINT_VARIABLE}
        own = {HOME_VARIABLE: str(self._home), _SEAT_VARIABLE: str(self._seat_lock)}
        return kept | own | dict(variables)
