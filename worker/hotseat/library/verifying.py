"""Reads every file of a registered model again and compares it with its record. Changes nothing."""

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from hotseat.library.folder import unavailable
from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import FileDigest, ModelRecord
from hotseat.protocol.process_lines import CheckedFile
from hotseat.protocol.tags import DIGEST_BYTES

_READ_BYTES: Final = 4 * MIB
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def verify_files(record_file: Path, on_progress: OnProgress) -> tuple[CheckedFile, ...]:
    """What became of each file since it was registered, in the order of the record.

    In the hub's cache large files are named by their own sha256, which is compared as well.
    """
    try:
        record = msgspec.json.decode(record_file.read_bytes(), type=ModelRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unavailable(
            record_file, f"its record is not readable ({error})", "import the model again"
        ) from error
    progress = ByteProgress(on_progress, "verify", sum(file.size_bytes for file in record.files))
    return tuple(_check(Path(record.path) / file.name, file, progress) for file in record.files)


def _check(path: Path, file: FileDigest, progress: ByteProgress) -> CheckedFile:
    try:
        found = path.stat()
        if found.st_size != file.size_bytes:
            reason = f"{found.st_size} bytes, {file.size_bytes} when registered"
            return CheckedFile(name=file.name, state="damaged", reason=reason)
        return _compare(path, file, found.st_mtime_ns, progress)
    except FileNotFoundError:
        return CheckedFile(name=file.name, state="missing", reason="there is no such file")
    except OSError as error:
        return CheckedFile(name=file.name, state="damaged", reason=f"not readable ({error})")


def _compare(path: Path, file: FileDigest, mtime_ns: int, progress: ByteProgress) -> CheckedFile:
    ours, theirs = _digests(path, progress)
    if ours != file.blake2b:
        return CheckedFile(name=file.name, state="damaged", reason="other bytes than registered")
    if theirs and theirs != path.resolve().name:
        return CheckedFile(name=file.name, state="damaged", reason="other bytes than published")
    if mtime_ns != file.mtime_ns:
        return CheckedFile(
            name=file.name, state="touched", reason="the same bytes, written anew; import it again"
        )
    return CheckedFile(name=file.name, state="sound")


def _digests(path: Path, progress: ByteProgress) -> tuple[str, str]:
    """blake2b-128 as in the record, and sha256 where the file's own name is one."""
    is_named = _SHA256.fullmatch(path.resolve().name) is not None
    ours = hashlib.blake2b(digest_size=DIGEST_BYTES)
    theirs = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            ours.update(piece)
            if is_named:
                theirs.update(piece)
            progress.add(len(piece))
    return ours.hexdigest(), theirs.hexdigest() if is_named else ""
