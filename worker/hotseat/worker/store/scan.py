"""Reads KV files and says what is wrong with them. A process of its own; must not know mlx.

    python -m hotseat.worker.store.scan KV_ROOT [--headers]

Writes `ScanLine`s to stdout: files that are damaged, and with `--headers`, which reads no parts,
every other one too with what its header says.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hotseat.protocol.ids import Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.process_lines import ScanCount, ScanLine, ScannedFile
from hotseat.protocol.tokens import block_id, unpack_tokens
from hotseat.worker.store.kv_file import read_header, read_kv
from hotseat.worker.store.kv_format import KvDamagedError, KvHeader, KvPayload

_NICE: Final = 10
_PROGRESS_S: Final = 0.2
_TOKEN_BYTES: Final = 4
_SUFFIX: Final = ".kv"


def scan(root: Path, *, headers_only: bool) -> Iterator[ScanLine]:
    """Every KV file below `root`, one folder per tag."""
    files = size = 0
    told_at = time.monotonic()
    for tag, name, entry in _kv_files(root):
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # evicted meanwhile
        files += 1
        size += found.st_size
        scanned = _scan_file(root / tag, tag, name, found, headers_only=headers_only)
        if scanned is not None and (headers_only or scanned.reason):
            yield ScanLine(file=scanned)
        if time.monotonic() - told_at >= _PROGRESS_S:
            told_at = time.monotonic()
            yield ScanLine(progress=ScanCount(files=files, size_bytes=size))
    yield ScanLine(end=ScanCount(files=files, size_bytes=size))


def _scan_file(
    folder: Path, tag: Tag, name: str, found: os.stat_result, *, headers_only: bool
) -> ScannedFile | None:
    try:
        content: KvHeader | KvPayload
        if headers_only:
            content = read_header(folder, name)
        else:
            content = read_kv(folder, name, tag=tag, parent=None, tokens=None)
        _check_place(content, tag, name)
    except KvDamagedError as error:
        if error.reason == "missing" or not error.is_lasting:
            return None
        return ScannedFile(tag=tag, file=name, size_bytes=found.st_size, reason=error.reason)
    return ScannedFile(
        tag=tag,
        file=name,
        size_bytes=found.st_size,
        parent=content.parent,
        tokens=content.tokens,
        hint=content.hint,
        written_at=found.st_mtime,
    )


def _check_place(content: KvHeader | KvPayload, tag: Tag, name: str) -> None:
    """Raises KvDamagedError for a file that lies where another one belongs."""
    if content.tag != tag:
        raise KvDamagedError("foreign tag")
    if not name.startswith("blocks/"):
        return
    if len(content.tokens) != BLOCK_TOKENS * _TOKEN_BYTES:
        raise KvDamagedError("a block that is not full")
    block = block_id(tag, content.parent, unpack_tokens(content.tokens))
    if name.rpartition("/")[2].partition(".")[0] != block:
        raise KvDamagedError("the name is not that of its contents")


def _kv_files(root: Path) -> Iterator[tuple[Tag, str, os.DirEntry[str]]]:
    for tag in sorted(_names(root)):
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            try:
                with os.scandir(root / tag / prefix) as listing:
                    entries = list(listing)
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{prefix}{entry.name}/")
                elif entry.name.endswith(_SUFFIX) and not entry.is_symlink():
                    yield Tag(tag), prefix + entry.name, entry


def _names(root: Path) -> list[str]:
    try:
        with os.scandir(root) as listing:
            return [entry.name for entry in listing if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the lines; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hotseat.worker.store.scan")
    parser.add_argument("root", type=Path)
    parser.add_argument("--headers", action="store_true")
    options = parser.parse_args(arguments)
    os.nice(_NICE)
    out = sys.stdout.buffer
    try:
        for line in scan(options.root, headers_only=options.headers):
            out.write(msgspec.json.encode(line) + b"\n")
            if line.file is None:
                out.flush()
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
