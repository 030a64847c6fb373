"""Files that are whole or absent after a crash. Must not know what they hold."""

import os
import secrets
from pathlib import Path


def write_durably(file: Path, data: bytes) -> None:
    """Replaces or creates `file`: temporary beside it, fsync, rename, fsync of the folder."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_file(file.parent)


def sync_file(file: Path) -> None:
    """Makes durable what a file that something else wrote holds, or the names in a folder."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes every file directly in `folder`, and the folder, durable."""
    for file in folder.iterdir():
        if file.is_file():
            sync_file(file)
    sync_file(folder)
