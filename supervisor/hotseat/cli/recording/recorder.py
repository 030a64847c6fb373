"""Where a recording goes, and how it ends: by time, by Ctrl-C, by a reader that went away."""

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hotseat.cli.recording.file import item_line, started_line
from hotseat.cli.recording.source import recorded_items
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import SAMPLED

if TYPE_CHECKING:
    from hotseat.client.sync import Client


def record_to(client: "Client", out: Path | None, *, for_s: float | None, kept: bool) -> int:
    """Records to a file or stdout; how many samples it was. Ctrl-C is a good end."""
    if out is None:
        return _record(client, sys.stdout.buffer, for_s=for_s, kept=kept)
    try:
        with out.open("wb") as target:
            return _record(client, target, for_s=for_s, kept=kept)
    except OSError as error:
        raise HotseatError("invalid_request", f"{out}: {error.strerror}") from error


def _record(client: "Client", target: IO[bytes], *, for_s: float | None, kept: bool) -> int:
    """Each line is flushed, so that what was written survives whatever ends us."""
    count = 0
    try:
        target.write(started_line())
        for item in recorded_items(client, for_s=for_s, kept=kept):
            target.write(item_line(item))
            target.flush()
            count += isinstance(item, Event) and item.name == SAMPLED
    except KeyboardInterrupt:
        target.flush()
    return count
