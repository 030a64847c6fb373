"""Reads the daemon's log file: its end, and what is added, over rotations."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from hotseat.cli.terminal.output import printable
from hotseat.cli.views.fact import facts_text
from hotseat.client.endpoint import HOW_TO_START
from hotseat.client.errors import DaemonUnreachable

_POLL_S: Final = 0.25
_TAIL_BYTES: Final = 1024 * 1024


class Tail(msgspec.Struct, frozen=True):
    """Last lines of a file and where reading goes on."""

    lines: list[str]
    position: int


def log_path() -> Path:
    """The log of the daemon, wherever the settings put it."""
    from hotseat.supervisor.settings.placed_home import find_placed

    return find_placed().log_file


def tail_log(path: Path, lines: int) -> Tail:
    """The last lines, out of the last MiB."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        raise DaemonUnreachable(
            f"no log at {path}: no daemon ever ran here; {HOW_TO_START}"
        ) from None
    whole, _, _ = data.rpartition(b"\n")
    text = whole.decode(errors="replace").splitlines()
    unfinished = len(data) - len(whole) - 1 if whole else len(data)
    return Tail(text[-lines:] if lines else [], end - unfinished)


def follow_log(
    path: Path, position: int, pause: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """Lines as they are added; a rotated file is read from its start."""
    rest = b""
    while True:
        try:
            if path.stat().st_size < position:
                position, rest = 0, b""
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
        except FileNotFoundError:  # between the two steps of a rotation
            data = b""
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if not data:
            pause(_POLL_S)


def show_log(path: Path, lines: int, *, follow: bool, as_json: bool) -> None:
    """The last lines, then those that are added."""
    tail = tail_log(path, lines)
    added = follow_log(path, tail.position) if follow else ()
    for line in itertools.chain(tail.lines, added):
        print_line(line, as_json=as_json)


def print_line(line: str, *, as_json: bool) -> None:
    """A stored line as it is, or its facts in one readable line."""
    sys.stdout.write((line if as_json else printable(_readable(line))) + "\n")
    sys.stdout.flush()


def _readable(line: str) -> str:
    try:
        facts: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return line
    when = facts.pop("timestamp", "")
    level = facts.pop("level", "")
    event = facts.pop("event", "")
    return f"{when}  {level:<7}  {event}  {facts_text(facts)}".rstrip()
