"""Folders that macOS lets a job read only after the user agreed, and a try with a time limit.

The question may wait behind other windows, and the call that asked hangs on it: so each try has a
thread of its own, which is left behind when it does not come back.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

PROBE_S: Final = 5.0
_IN_HOME: Final = (
    "Documents",
    "Desktop",
    "Downloads",
    "Library/Mobile Documents",
    "Library/CloudStorage",
)
_VOLUMES: Final = Path("/Volumes")
REMEDY: Final = (
    "allow it in System Settings → Privacy & Security → Files and Folders, or move the folder"
)
Outcome = Literal["readable", "refused", "silent", "missing"]


class Probe(Struct, frozen=True, kw_only=True):
    """What a try to read a folder gave. `silent`: no answer in time."""

    path: str
    outcome: Outcome


def protected_root(path: Path, user_home: Path) -> Path | None:
    """The folder above `path` that needs a grant, or None. Names only: nothing is touched."""
    for root in (_VOLUMES, *(user_home / name for name in _IN_HOME)):
        if path == root or root in path.parents:
            return root
    return None


class ProtectedPlace(Struct, frozen=True, kw_only=True):
    """Something that a job needs and that lies in a folder which needs a grant."""

    what: str
    path: str
    root: str

    @property
    def notice(self) -> str:
        """What is so, without a way out."""
        return f"{self.what} {self.path} lies in {self.root}, which macOS asks about first"


def protected_places(places: Mapping[str, Path], user_home: Path) -> dict[str, ProtectedPlace]:
    """Those of `places` that need a grant, where they are named or where their links lead."""
    found = {}
    for what, path in places.items():
        for place in (path, path.resolve()):
            root = protected_root(place, user_home) or protected_root(place, user_home.resolve())
            if root is not None:
                found[what] = ProtectedPlace(what=what, path=str(place), root=str(root))
                break
    return found


def probe_folder(
    path: Path,
    timeout_s: float = PROBE_S,
    read: Callable[[Path], object] = lambda path: next(os.scandir(path), None),
) -> Probe:
    """Tries to list a folder; returns within `timeout_s`, whatever the system does."""
    outcomes: list[Outcome] = []

    def attempt() -> None:
        try:
            read(path)
        except FileNotFoundError:
            outcomes.append("missing")
        except OSError:
            outcomes.append("refused")
        else:
            outcomes.append("readable")

    thread = threading.Thread(target=attempt, name="hotseat-probe", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return Probe(path=str(path), outcome=outcomes[0] if outcomes else "silent")


def probe_notice(probe: Probe) -> str:
    """One sentence with the way out; empty when all is well."""
    match probe.outcome:
        case "readable":
            return ""
        case "missing":
            return f"folder {probe.path} is missing; is its volume mounted?"
        case "refused":
            return f"folder {probe.path} may not be read by the service; {REMEDY}"
        case "silent":
            return f"folder {probe.path} did not answer: macOS may be asking; {REMEDY}"


def notices_for(
    folders: Iterable[Path], user_home: Path, probe: Callable[[Path], Probe] = probe_folder
) -> tuple[str, ...]:
    """Tries those of `folders` that need a grant."""
    asked = {path for path in folders if protected_root(path, user_home) is not None}
    said = (probe_notice(probe(path)) for path in sorted(asked))
    return tuple(text for text in said if text)
