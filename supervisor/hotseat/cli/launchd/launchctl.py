"""Calls `launchctl` and says what it meant. Knows its ways to fail, no procedure."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.cli.terminal.output import last_line
from hotseat.protocol.errors import HotseatError

PROGRAM_VARIABLE: Final = "HOTSEAT_LAUNCHCTL"
"""Another `launchctl`, for tests."""
PROGRAM: Final = "/bin/launchctl"
_CALL_S: Final = 60.0
_NOT_LOADED: Final = frozenset({3, 113})
"""No such process; could not find service."""
_BUSY: Final = frozenset({5, 17, 36, 37})
"""Input/output error (also: still going away), exists, in progress, already in progress."""
_NO_DOMAIN: Final = 125
_DISABLED: Final = 119
_FACT: Final = re.compile(r"^\s*(state|pid|last exit code|path) = (.+?)\s*$", re.MULTILINE)


class Answer(Struct, frozen=True):
    """How a call ended; `text` is what it printed."""

    code: int
    text: str

    @property
    def is_busy(self) -> bool:
        """The same call may work a moment later."""
        return self.code in _BUSY

    @property
    def is_disabled(self) -> bool:
        """The item was switched off by `launchctl disable` or in Login Items."""
        return self.code == _DISABLED


class LoadedJob(Struct, frozen=True, kw_only=True):
    """A job that launchd knows."""

    state: str = ""
    pid: int | None = None
    last_exit_code: int | None = None


class Launchctl:
    """The jobs of this user's graphical session, or those of the system."""

    def __init__(self, program: str | None = None, *, system: bool = False) -> None:
        self._program = program or os.environ.get(PROGRAM_VARIABLE) or PROGRAM
        self._domain = "system" if system else f"gui/{os.getuid()}"

    @property
    def is_there(self) -> bool:
        """False on systems without launchd."""
        return os.access(self._program, os.X_OK)

    def find(self, label: str) -> LoadedJob | None:
        """What launchd says of a job; None when it is not loaded."""
        answer = self._call("print", self._target(label))
        if answer.code in _NOT_LOADED:
            return None
        if answer.code:
            raise refused("print", answer)
        facts: dict[str, str] = {}
        for name, value in _FACT.findall(answer.text):
            facts.setdefault(name, value)  # the job's own come first, its sub-services' later
        return LoadedJob(
            state=facts.get("state", ""),
            pid=_number(facts.get("pid")),
            last_exit_code=_number(facts.get("last exit code")),
        )

    def is_disabled(self, label: str) -> bool:
        """True when the item is switched off: it is never started then."""
        answer = self._call("print-disabled", self._domain)
        found = re.search(rf'"{re.escape(label)}" => (\w+)', answer.text)
        return found is not None and found[1] in {"disabled", "true"}

    def enable(self, label: str) -> Answer:
        """Undoes `disable`; harmless otherwise."""
        return self._call("enable", self._target(label))

    def bootstrap(self, plist: Path) -> Answer:
        """Loads a job."""
        return self._call("bootstrap", self._domain, str(plist))

    def bootout(self, label: str) -> Answer:
        """Ends and unloads a job; may return before it is gone."""
        return self._call("bootout", self._target(label))

    def kickstart(self, label: str) -> Answer:
        """Starts a loaded job that does not run."""
        return self._call("kickstart", self._target(label))

    def terminate(self, label: str) -> Answer:
        """Sends SIGTERM to a job's process: the daemon then ends in order."""
        return self._call("kill", "SIGTERM", self._target(label))

    def _target(self, label: str) -> str:
        return f"{self._domain}/{label}"

    def _call(self, *arguments: str) -> Answer:
        try:
            done = subprocess.run(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_CALL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HotseatError(
                "service_failed",
                f"launchctl {arguments[0]} did not answer within {_CALL_S:.0f} s; try again, or "
                "log out and in",
            ) from error
        return Answer(done.returncode, done.stdout.decode(errors="replace"))


def refused(verb: str, answer: Answer) -> HotseatError:
    """The error for a call that failed for good, with what to do."""
    remedy = "see `hotseat service status` and `hotseat service logs`"
    if answer.code == _NO_DOMAIN:
        remedy = (
            "log in on the Mac's screen once: a launchd job of a user needs that session, one of "
            "the system does not (`sudo hotseat service install --system`)"
        )
    elif answer.is_disabled:
        remedy = "switch it on in System Settings → General → Login Items & Extensions"
    return HotseatError(
        "service_failed",
        f"launchctl {verb} failed with {answer.code} ({last_line(answer.text)}); {remedy}",
        verb=verb,
        launchctl_code=answer.code,
    )


def _number(text: str | None) -> int | None:
    found = re.match(r"-?\d+", text or "")
    return int(found[0]) if found else None
