"""Keeps the machine from idle sleep, and tells what it runs on. Must not know why.

On macOS a child `caffeinate` holds the assertion: it ends with this process by whatever death
(`-w`), and `pmset -g assertions` names it. Other systems are left alone.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final, Protocol

import psutil

CAFFEINATE: Final = "/usr/bin/caffeinate"
CAFFEINATE_VARIABLE: Final = "HOTSEAT_CAFFEINATE"
"""Another program in its place, on any system: for tests."""
_GONE_S: Final = 1.0


class PowerAssertion(Protocol):
    """No idle sleep while it is held. Calls do not wait."""

    @property
    def is_held(self) -> bool:
        """False too when the system took it away."""

    def hold(self) -> None:
        """Raises OSError when the system has no way to do it."""

    def let_go(self) -> None:
        """The machine may sleep again."""

    def close(self) -> None:
        """Lets go and leaves nothing behind; may wait for a moment."""


class NoAssertion:
    """For systems that are left alone."""

    is_held = False

    def hold(self) -> None:
        """Nothing."""

    def let_go(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Caffeinate:
    """One child process for each time it is held."""

    def __init__(self, program: str = CAFFEINATE) -> None:
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None
        self._ending: list[subprocess.Popen[bytes]] = []

    @property
    def is_held(self) -> bool:
        """True while the child lives; what has ended is reaped here."""
        self._ending = [child for child in self._ending if child.poll() is None]
        return self._child is not None and self._child.poll() is None

    def hold(self) -> None:
        """`-i` is idle sleep alone, never the display (`-d`)."""
        if self.is_held:
            return
        self._child = subprocess.Popen(
            [self._program, "-i", "-w", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def let_go(self) -> None:
        """Asks the child to end; it is reaped at a later look."""
        child, self._child = self._child, None
        if child is not None and child.poll() is None:
            child.terminate()
            self._ending.append(child)

    def close(self) -> None:
        """A child that does not end by then ends with this process."""
        self.let_go()
        for child in self._ending:
            try:
                child.wait(_GONE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._ending = []


def system_power(environ: Mapping[str, str] = os.environ) -> PowerAssertion:
    """What this system has."""
    program = environ.get(CAFFEINATE_VARIABLE)
    if program:
        return Caffeinate(program)
    return Caffeinate() if sys.platform == "darwin" else NoAssertion()


def is_on_battery() -> bool:
    """False where there is no battery, or nobody knows."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return battery is not None and battery.power_plugged is False
