"""Raw figures as JSON lines: appended at once, read back without a line that was cut off.

Must not know what a line holds.
"""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

RESULTS = Path(__file__).parent / "results"
Line = TypeVar("Line", bound=Struct)


def append_line(path: Path, line: Struct) -> None:
    """At once: what takes hours may be ended at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":  # the machine went away in the middle of a line
                file.write(b"\n")
        file.write(msgspec.json.encode(line) + b"\n")


def read_lines(path: Path, of: type[Line]) -> list[Line]:
    """All of a file, none where there is no file; cut lines are left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=of))
        except msgspec.DecodeError:
            continue
    return found
