"""Another name for a registered model: its folder is what names it. Must not know sessions."""

import os
import secrets
from pathlib import Path

import msgspec
from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, is_model_name
from hotseat.protocol.model import RECORD_FILE, ModelRecord
from hotseat.supervisor.models.registry import Registry


def target_folder(registry: Registry, old: str, new: str) -> Path:
    """Where the folder of model `old` goes to be called `new`.

    Raises `HotseatError`: unknown_model, invalid_request for a name that is taken or is none.
    """
    folder = registry.own_folder(old)
    if not is_model_name(new):
        raise HotseatError(
            "invalid_request",
            f"{new!r} is no model name; use letters, digits and ._:@+- (a letter or digit first)",
            name=new,
        )
    target = folder.with_name(new)
    if new in registry.names() or target.exists():
        raise HotseatError(
            "invalid_request",
            f"the name {new!r} is taken; choose another one, or remove that model first",
            name=new,
        )
    return target


def rename_folder(folder: Path, target: Path) -> None:
    """Renames the folder; a record of files that lie in it says where they will be.

    A kill in between leaves a model that is unavailable until it is renamed once more.
    """
    file = folder / RECORD_FILE
    record = msgspec.json.decode(file.read_bytes(), type=ModelRecord)
    path = str(target) if Path(record.path) in (folder, target) else record.path
    record = structs.replace(record, name=ModelName(target.name), path=path)
    _write(file, msgspec.json.format(msgspec.json.encode(record), indent=1))
    folder.rename(target)
    _sync(target.parent)


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        temporary.chmod(0o600)
        _sync(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
