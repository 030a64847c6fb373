"""JSON lines by which processes that run for one task tell what they do: each has one field.

Written by `python -m hotseat.library` and `python -m hotseat.worker.store.scan`; both ends are of
the same version. Must not know who runs them or how the lines are framed.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from hotseat.protocol.conversions import ConversionPlan
from hotseat.protocol.found_models import Discovery
from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.pulls import Pulled, PullPlan


class LibraryStep(Struct, frozen=True, kw_only=True):
    """How far a phase of the library's work is."""

    phase: str
    percent: float


class LibraryFailure(Struct, frozen=True, kw_only=True):
    """An error of the table, instead of a result."""

    code: str
    message: str
    facts: dict[str, Any] = {}


class Inspected(Struct, frozen=True, kw_only=True):
    """A folder's record as far as planning needs it, and what Metal allows here (None without)."""

    record: ModelRecord
    working_set_bytes: int | None = None


class FetchedSample(Struct, frozen=True, kw_only=True):
    """A model file that was fetched and verified."""

    name: str
    gguf_path: Path
    licence: str
    chat: bool


class CheckedFile(Struct, frozen=True, kw_only=True):
    """A file of a model against its record. `touched`: the same bytes with another time."""

    name: str
    state: Literal["sound", "touched", "damaged", "missing"]
    reason: str = ""


class LibraryLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the library: steps, then a result or an error."""

    progress: LibraryStep | None = None
    error: LibraryFailure | None = None
    record: ModelRecord | None = None
    inspected: Inspected | None = None
    samples: tuple[FetchedSample, ...] | None = None
    discovery: Discovery | None = None
    checked: tuple[CheckedFile, ...] | None = None
    pull_plan: PullPlan | None = None
    pulled: Pulled | None = None
    conversion: ConversionPlan | None = None


class ScannedFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A KV file as the scan saw it. `reason` is empty if it verifies."""

    tag: Tag
    file: str
    size_bytes: int
    reason: str = ""
    parent: BlockId = BlockId("")
    tokens: bytes = b""
    hint: bytes = b""
    written_at: float = 0.0


class ScanCount(Struct, frozen=True, kw_only=True):
    """KV files read so far."""

    files: int
    size_bytes: int


class ScanLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the scan: now and then how far it is, files, at last the count of all."""

    progress: ScanCount | None = None
    file: ScannedFile | None = None
    end: ScanCount | None = None


LIBRARY_LINE: Final = msgspec.json.Decoder(LibraryLine, dec_hook=lambda kind, plain: kind(plain))
SCAN_LINE: Final = msgspec.json.Decoder(ScanLine)
