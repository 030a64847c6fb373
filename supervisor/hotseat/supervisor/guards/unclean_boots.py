"""Remembers which model was seated when the machine went down, across its boots, and panics.

A model whose weights take the machine down would be loaded again by the first request after each
boot. After two such boots in a row nothing seats it but a swap that somebody asks for.
"""

import asyncio
import contextlib
import ctypes
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.guards.rules.boots import (
    BootSeat,
    Panics,
    Unclean,
    after_reports,
    bars,
    seen_at_start,
    unread_reports,
)

_SEATED_KEY: Final = "boots:seated"
_UNCLEAN_KEY: Final = "boots:unclean"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAC_BOOT: Final = b"kern.bootsessionuuid"
_TEXT_BYTES: Final = 64
_PANICS_KEY: Final = "boots:panics"
PANIC_REPORTS: Final = Path("/Library/Logs/DiagnosticReports")
"""Where macOS puts them, some time after the next boot; other systems have no such folder."""
_REPORT_BYTES: Final = MIB
"""The panic and the tasks it was in stand at the beginning."""
log = structlog.get_logger()


class BootMarks:
    """What the catalogue says about boots; `barred` is the model that must not come by itself."""

    def __init__(self, catalogue: Catalogue, boot: str, reports: Path = PANIC_REPORTS) -> None:
        self._catalogue = catalogue
        self._boot = boot
        self._reports = reports
        self._panics: Panics | None = None
        self._unclean = Unclean()
        self._written: str | None = None

    @property
    def barred(self) -> str | None:
        """The model that was seated at the last two unclean boots."""
        return bars(self._unclean)

    @property
    def panic_report(self) -> str:
        """The panic that named the GPU's memory and Python; empty if there was none."""
        return "" if self._panics is None else self._panics.blamed

    async def recall(self) -> None:
        """Looks at what the last run left; to be called before anything is seated."""
        seated = _decode(await self._catalogue.meta_get(_SEATED_KEY), BootSeat) or BootSeat()
        known = _decode(await self._catalogue.meta_get(_UNCLEAN_KEY), Unclean) or Unclean()
        self._unclean = seen_at_start(seated, known, self._boot)
        await self._store(_UNCLEAN_KEY, self._unclean)
        await self._store(_SEATED_KEY, BootSeat())
        if self._unclean.count:
            log.warning(
                "machine.went_down", model=self._unclean.model, in_a_row=self._unclean.count
            )
        self._panics = _decode(await self._catalogue.meta_get(_PANICS_KEY), Panics)
        await self._look_at_reports()

    async def note(self, model: str | None) -> None:
        """`model` gets the seat, or nobody has it any more: then it was left in order."""
        if model == self._written:
            return
        self._written = model
        if model is not None:
            await self._look_at_reports()
        if model is None and self._unclean.count:
            self._unclean = Unclean()
            await self._store(_UNCLEAN_KEY, self._unclean)
        await self._store(_SEATED_KEY, BootSeat(model=model or "", boot=self._boot))

    def refuse(self, model: str) -> None:
        """Raises `HotseatError` (model_quarantined) when only a person may seat this model."""
        if model == self.barred:
            raise HotseatError(
                "model_quarantined",
                f"the machine went down {self._unclean.count} times in a row with {model} seated; "
                f"`hotseat swap {model}` seats it all the same",
                model=model,
                unclean_boots=self._unclean.count,
            )

    async def _look_at_reports(self) -> None:
        """A report may come minutes after the boot, so this happens before each seating too."""
        found = await asyncio.to_thread(read_reports, self._reports, self._panics)
        if found == self._panics:
            return
        if found.blamed != self.panic_report:
            log.warning("machine.panicked", report=found.blamed, consequence="weights not wired")
        self._panics = found
        await self._store(_PANICS_KEY, found)

    async def _store(self, key: str, value: Struct) -> None:
        await self._catalogue.meta_set(key, msgspec.json.encode(value).decode())


def boot_id(libc: Any = None) -> str:
    """Differs from boot to boot and from nothing else."""
    if sys.platform == "linux" and libc is None:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    native = libc or ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    size = ctypes.c_size_t(_TEXT_BYTES)
    failed = native.sysctlbyname(_MAC_BOOT, text, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else text.value.decode("ascii", errors="replace")


def read_reports(folder: Path, known: Panics | None) -> Panics:
    """What is known after a look into the folder; only reports that are new are opened."""
    present = [path.name for path in folder.glob("*.panic")]
    read = {}
    for name in unread_reports(known, present):
        with contextlib.suppress(OSError), (folder / name).open("rb") as file:
            read[name] = file.read(_REPORT_BYTES).decode("utf-8", errors="replace")
    return after_reports(known, present, read)


def _decode(text: str | None, kind: Any) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return None
