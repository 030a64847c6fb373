"""Unlinks KV files that no row of the catalogue names. Knows no file format.

Rows go before files: whoever calls this has committed already that the files are not needed.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import Tag
from hotseat.supervisor.catalogue.rows import KvFile

_KEPT: Final = frozenset({"CACHEDIR.TAG"})
_DRAFT: Final = ".tmp"


class Swept(Struct, frozen=True, kw_only=True):
    """What a sweep did. `kept_young`: files that nobody names yet but that are too new."""

    removed: int
    removed_bytes: int
    kept_young: int
    failed: int


def kv_sweep(kv_dir: Path, known_files: Mapping[Tag, AbstractSet[str]], older_than: float) -> Swept:
    """Removes all temporary files, and orphans last written before Unix time `older_than`.

    Blocks; run it in a thread, and before any worker starts: a worker that finds an old file it
    was about to write reports it as written, and it must not vanish then. Not for a catalogue
    that was begun anew: it names nothing, so this would delete everything.
    """
    removed = removed_bytes = kept_young = failed = 0
    for tag, name, entry in _kv_entries(kv_dir):
        if name in _KEPT or name in known_files.get(tag, frozenset()):
            continue
        try:
            found = entry.stat(follow_symlinks=False)
            if found.st_mtime >= older_than and not _is_draft(name):
                kept_young += 1
                continue
            os.unlink(entry.path)  # noqa: PTH108 - a scan of many entries
        except FileNotFoundError:
            continue
        except OSError:
            failed += 1
            continue
        removed += 1
        removed_bytes += found.st_size
    _remove_empty(kv_dir)
    return Swept(removed=removed, removed_bytes=removed_bytes, kept_young=kept_young, failed=failed)


def sweep_drafts(kv_dir: Path, before: float) -> int:
    """Removes what a dead worker was about to write, by bytes; `before` is when it died.

    The next worker's temporary files are younger. Blocks; run it in a thread.
    """
    freed = 0
    for _, name, entry in _kv_entries(kv_dir):
        if not _is_draft(name):
            continue
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            if found.st_mtime < before:
                os.unlink(entry.path)  # noqa: PTH108 - a scan of many entries
                freed += found.st_size
    return freed


def find_orphans(
    kv_dir: Path, known_files: Mapping[Tag, AbstractSet[str]], older_than: float
) -> list[KvFile]:
    """Files that no row names, last written before Unix time `older_than`. Blocks."""
    orphans = []
    for tag, name, entry in _kv_entries(kv_dir):
        if name in _KEPT or name in known_files.get(tag, frozenset()):
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if found.st_mtime < older_than:
            orphans.append(KvFile(tag=tag, file=name, size_bytes=found.st_size))
    return orphans


def unlink_files(kv_dir: Path, files: Iterable[KvFile]) -> int:
    """Removes files and returns their bytes; one that is gone already is no error.

    Blocks; run it in a thread. Raises OSError for the first file that could not be removed, after
    the others.
    """
    freed = 0
    refusal: OSError | None = None
    for file in files:
        if not file.file:
            continue
        try:
            (kv_dir / file.tag / file.file).unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            refusal = refusal or error
            continue
        freed += file.size_bytes
    if refusal is not None:
        raise refusal
    return freed


def _kv_entries(kv_dir: Path) -> Iterator[tuple[Tag, str, os.DirEntry[str]]]:
    """Files below `kv_dir / tag`, with their names as the catalogue writes them."""
    for tag_dir in _folders(kv_dir):
        waiting = [(tag_dir, "")]
        while waiting:
            folder, prefix = waiting.pop()
            # A folder may go meanwhile: models are removed while others are served.
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((Path(entry.path), f"{prefix}{entry.name}/"))
                    else:
                        yield Tag(tag_dir.name), prefix + entry.name, entry


def _is_draft(name: str) -> bool:
    """A file that has not got its name yet."""
    return name.rpartition("/")[2].startswith(".") and name.endswith(_DRAFT)


def _folders(folder: Path) -> list[Path]:
    try:
        return [item for item in folder.iterdir() if item.is_dir() and not item.is_symlink()]
    except FileNotFoundError:
        return []


def _remove_empty(kv_dir: Path) -> None:
    """Fan-out folders of tags that are gone; those with files refuse to go."""
    for tag_dir in _folders(kv_dir):
        for folder, _, _ in os.walk(tag_dir, topdown=False):
            try:
                os.rmdir(folder)  # noqa: PTH106 - as os.walk gives it
            except OSError:
                continue
