"""Remembers which model was seated when the machine went down, across its boots.

A model whose weights take the machine down would be loaded again by the first request after each
boot. After two such boots in a row nothing seats it but a swap that somebody asks for.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.guards.rules.boots import BootSeat, Unclean, bars, seen_at_start

_SEATED_KEY: Final = "boots:seated"
_UNCLEAN_KEY: Final = "boots:unclean"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAC_BOOT: Final = b"kern.bootsessionuuid"
_TEXT_BYTES: Final = 64
log = structlog.get_logger()


class BootMarks:
    """What the catalogue says about boots; `barred` is the model that must not come by itself."""

    def __init__(self, catalogue: Catalogue, boot: str) -> None:
        self._catalogue = catalogue
        self._boot = boot
        self._unclean = Unclean()
        self._written: str | None = None

    @property
    def barred(self) -> str | None:
        """The model that was seated at the last two unclean boots."""
        return bars(self._unclean)

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

    async def note(self, model: str | None) -> None:
        """`model` gets the seat, or nobody has it any more: then it was left in order."""
        if model == self._written:
            return
        self._written = model
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


def _decode(text: str | None, kind: Any) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return None
