"""Recordings: a JSONL file of samples and lifecycle events, written and read. Knows no screen."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import SAMPLED, Sample
from hotseat.protocol.version import VERSION

_FORMAT: Final = 1


class Recording(Struct, frozen=True, kw_only=True):
    """What a file holds, in order of time."""

    samples: tuple[Sample, ...]
    events: tuple[Event, ...]


def started_line() -> bytes:
    """First line of a file: what this is."""
    return json_line({"recording": _FORMAT, "hotseat": VERSION, "at": time.time()})


def json_line(value: Any) -> bytes:
    """One line an event; samples are events whose name is `telemetry.sampled`."""
    return msgspec.json.encode(value) + b"\n"


def read_recording(path: Path) -> Recording:
    """The samples and events of a file; a last line that was cut off is passed over.

    Raises `HotseatError` (invalid_request) for what is no recording.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise HotseatError("invalid_request", f"{path}: {error.strerror}") from error
    rest, found = lines[1:], []
    if _opening(lines[0]) != _FORMAT:
        raise HotseatError(
            "invalid_request", f"{path} is no recording; make one with `hotseat record --out FILE`"
        )
    for number, line in enumerate(rest, start=2):
        if not line or b'"next_seq"' in line:
            continue
        try:
            found.append(msgspec.json.decode(line, type=Event))
        except msgspec.MsgspecError as error:
            if number == len(lines):
                break
            raise HotseatError("invalid_request", f"{path}, line {number}: {error}") from error
    return _sorted(found)


def _sorted(found: Iterable[Event]) -> Recording:
    events = sorted(found, key=lambda event: event.at)
    return Recording(
        samples=tuple(
            msgspec.convert(event.facts, Sample) for event in events if event.name == SAMPLED
        ),
        events=tuple(event for event in events if event.name != SAMPLED),
    )


def _opening(line: bytes) -> Any:
    try:
        opening = msgspec.json.decode(line)
    except msgspec.MsgspecError:
        return None
    return opening.get("recording") if isinstance(opening, dict) else None
