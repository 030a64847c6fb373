"""Which code is on disk for the two ends of the link: its version and a digest of its files.

Tells code apart, nothing more: who may run with whom is decided elsewhere.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

import hotseat

LINKED: Final = ("protocol", "worker")
"""Packages that both ends of the link have to have in common."""
_VERSION_FILE: Final = "version.py"
_VERSION: Final = re.compile(r'VERSION: Final = "([^"]+)"')
_DIGEST_BYTES: Final = 16


class Code(Struct, frozen=True, kw_only=True):
    """What is on disk. `version` is empty where it cannot be read: gone, or being replaced."""

    version: str
    digest: str


@functools.cache
def own_code() -> Code:
    """Of this process, as of its first call: what is on disk may be replaced later."""
    return InstalledCode().read()


class InstalledCode:
    """Reads the files again only when one of them changed. `roots` have the packages in them."""

    def __init__(self, roots: Iterable[Path] | None = None) -> None:
        self._roots = tuple(map(Path, hotseat.__path__) if roots is None else roots)
        self._stamps: tuple[tuple[str, int, int], ...] | None = None
        self._code = Code(version="", digest="")

    def read(self) -> Code:
        """As of now. Files that vanish while they are read make a digest of their own."""
        try:
            stamps = tuple(self._stamps_now())
            if stamps != self._stamps:
                self._code, self._stamps = self._read_all(), stamps
        except OSError:
            self._stamps = None
            return Code(version="", digest="")
        return self._code

    def _read_all(self) -> Code:
        version, digest = "", hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for name, path in self._files():
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
            if name == f"{LINKED[0]}/{_VERSION_FILE}":
                found = _VERSION.search(content.decode(errors="replace"))
                version = found[1] if found is not None else ""
        return Code(version=version, digest=digest.hexdigest())

    def _stamps_now(self) -> Iterable[tuple[str, int, int]]:
        for name, path in self._files():
            found = path.stat()
            yield name, found.st_size, found.st_mtime_ns

    def _files(self) -> Iterable[tuple[str, Path]]:
        """By name. Of a package in two roots the first counts, as it does for imports."""
        for package in LINKED:
            folders = (root / package for root in self._roots)
            folder = next((place for place in folders if place.is_dir()), None)
            if folder is not None:
                found = ((Path(at) / name) for at, _, names in os.walk(folder) for name in names)
                for path in sorted(one for one in found if one.suffix == ".py"):
                    yield f"{package}/{path.relative_to(folder).as_posix()}", path
