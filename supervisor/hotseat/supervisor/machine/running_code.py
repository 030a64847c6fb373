"""Whether the files of hotseat are still those that this daemon was started from.

An upgrade replaces them under a daemon that goes on. What it starts afterwards would be of another
version than itself, and the link between the two is of one version. Starts and ends nothing.
"""

from typing import Final, Protocol

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.installed_code import Code, InstalledCode

LOOK_S: Final = 1.0
"""How old the answer of `notice` may be."""


class Installed(Protocol):
    """What is on disk."""

    def read(self) -> Code:
        """As of now."""


class RunningCode:
    """Of one daemon: what it is made of, as of its making."""

    def __init__(self, installed: Installed | None = None) -> None:
        self._installed = installed or InstalledCode()
        self.own = self._installed.read()
        self._notice = ""
        self._looked_at: float | None = None

    @property
    def is_replaced(self) -> bool:
        """True when a worker that is started now would be of other code than this daemon."""
        return self._installed.read().digest != self.own.digest

    def refuse_replaced(self) -> None:
        """Raises `HotseatError` (restart_needed) when a new worker would be of other code."""
        installed = self._installed.read()
        if installed.digest != self.own.digest:
            raise HotseatError(
                "restart_needed",
                describe(self.own, installed),
                running=self.own.version,
                installed=installed.version,
            )

    def is_of(self, digest: str) -> bool:
        """True for a worker that says so in its hello; older ones say nothing."""
        return digest == self.own.digest

    def refusal_of_worker(self) -> HotseatError:
        """For a worker that says it is of other code, whatever is on disk by now."""
        installed = self._installed.read()
        text = describe(self.own, installed)
        return HotseatError(
            "restart_needed", text, running=self.own.version, installed=installed.version
        )

    def notice(self, now: float) -> str:
        """What a person should know and do; empty while all is of one version."""
        if self._looked_at is None or now - self._looked_at >= LOOK_S:
            installed = self._installed.read()
            is_same = installed.digest == self.own.digest
            self._notice = "" if is_same else describe(self.own, installed)
            self._looked_at = now
        return self._notice


def describe(own: Code, installed: Code) -> str:
    """One sentence with the way out."""
    if not installed.version:
        what = f"the files of hotseat {own.version}, which runs, are gone or being replaced"
    elif installed.version == own.version:
        what = f"the files of hotseat {own.version} were changed while it runs"
    else:
        what = f"hotseat was upgraded to {installed.version} while {own.version} runs"
    return (
        f"{what}: no other model is seated until `hotseat restart`, which saves every context and "
        "starts the installed version"
    )
