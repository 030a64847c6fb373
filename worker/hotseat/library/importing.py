"""Turns a source into a registered model under HOME/models. Must not know formats in detail.

A model is published by one rename or by one record file: whatever dies half way leaves nothing
that looks like a model, and the next import removes the leftovers.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hotseat.library.durable import sync_file, sync_tree
from hotseat.library.folder import unavailable
from hotseat.library.gguf.converting import Conversion, convert_gguf
from hotseat.library.gguf.file import GgufFile, open_gguf
from hotseat.library.gguf.forms import AS_STORED, Wish
from hotseat.library.gguf.parts import part_files
from hotseat.library.gguf.planning import Work, describe_work, plan_work, tell_plan
from hotseat.library.hub_cache import (
    hub_repository,
    is_same_source,
    name_of_source,
    repository_name,
    resolve_source,
)
from hotseat.library.progress import OnProgress
from hotseat.library.registering import describe_folder, write_record
from hotseat.library.stated import NOTHING_STATED, Stated
from hotseat.protocol.conversions import ConversionPlan
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, is_model_name
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import RECORD_FILE, ModelRecord, ModelSource
from hotseat.worker.store.folders import exclude_from_time_machine

MODELS_FOLDER: Final = "models"
_STAGING: Final = ".import-"
_REPLACED: Final = ".replaced-"
_LOCK: Final = ".import.lock"
_GGUF_MAGIC: Final = b"GGUF"
_ROOM_BYTES: Final = 64 * MIB
"""For what is written beside the weights: tokenizer, configuration, record."""
_FULL_BYTES: Final = 16 * MIB
"""Less free space than this makes a failed write count as a full disk."""


def import_model(
    source: Path,
    home: Path,
    name: str | None,
    on_progress: OnProgress,
    licence: str = "",
    context_tokens: int | None = None,
    adapter: Path | None = None,
    models: Path | None = None,
    wish: Wish = AS_STORED,
    stated: Stated = NOTHING_STATED,
) -> ModelRecord:
    """Registers a GGUF file (converted) or an MLX folder (in place) and returns its record.

    `adapter` is a folder of LoRA weights that is loaded with the model, in place as well; `models`
    where registered models lie, if not in the home; `stated` what came with a file beside it.

    `on_progress` gets (phase, percent). Raises `HotseatError`: model_unavailable, invalid_request
    or disk_full.
    """
    source = _existing(source)
    if adapter is not None:
        adapter = resolve_source(Path(adapter).expanduser().absolute())
    chosen = _model_name(source, name)
    models = models or Path(home).expanduser().absolute() / MODELS_FOLDER
    _make_folder(models, Path(home))
    exclude_from_time_machine(models)
    with _only_import(models, on_progress):
        _remove_leftovers(models)
        _check_name_is_free(models / chosen, source)
        try:
            with _staging_folder(models) as staging:
                folder, kept = source, Conversion(licence=licence, requantised=())
                if not source.is_dir():
                    work = _plan(source, models, wish, on_progress)
                    folder, kept = staging, convert_gguf(work, staging, on_progress, stated)
                    context_tokens = context_tokens or _stated_context(work, stated)
                record = describe_folder(
                    resolve_source(folder),
                    ModelName(chosen),
                    _origin(source, licence or kept.licence),
                    on_progress,
                    context_tokens=context_tokens,
                    final_path=resolve_source(source) if source.is_dir() else models / chosen,
                    requantised=kept.requantised,
                    adapter=adapter,
                )
                write_record(staging, record)
                _tell_what_becomes_cold(models / chosen, record, on_progress)
                _publish(staging, models, chosen)
        except OSError as error:
            raise _disk_error(error, models) from error
    return record


def plan_import(source: Path, home: Path, models: Path | None, wish: Wish) -> ConversionPlan:
    """What importing a GGUF file would write; nothing is. `HotseatError` as `import_model`."""
    source = _existing(source)
    if source.is_dir():
        raise HotseatError(
            "invalid_request",
            f"{source} is a folder: it is used in place and nothing is converted; see what it "
            "would cost with `hotseat plan FOLDER`",
            path=str(source),
        )
    place = models or Path(home).expanduser().absolute() / MODELS_FOLDER
    work = plan_work(_open_file(source), wish)
    return describe_work(work, next(one for one in (place, *place.parents) if one.exists()))


def _existing(source: Path) -> Path:
    """The folder or file; the first part of a model that was split, whichever was named."""
    source = Path(source).expanduser().absolute()
    if not source.exists():
        raise unavailable(source, "there is no such file or folder", "check the path")
    first = source if source.is_dir() else part_files(source)[0]
    return first if first.is_file() else source


def _make_folder(models: Path, home: Path) -> None:
    """Never makes what a volume would lie over that is not mounted."""
    try:
        models.mkdir(mode=0o700, parents=models.is_relative_to(home.absolute()), exist_ok=True)
    except OSError as error:
        raise HotseatError(
            "invalid_config",
            f"models folder {models} cannot be made ({error.strerror}); mount its volume or change "
            "`models` of [folders] in config.toml",
            path=str(models),
        ) from error


def _origin(source: Path, licence: str) -> ModelSource:
    is_file = not source.is_dir()
    folder = source.parent if is_file else resolve_source(source)
    repository = hub_repository(folder)
    return ModelSource(
        kind="gguf" if is_file else "mlx",
        path=str(source),
        licence=licence,
        repository="" if repository is None else repository_name(repository),
        revision="" if repository is None else folder.name,
    )


def _open_file(source: Path) -> GgufFile:
    with source.open("rb") as stream:
        magic = stream.read(len(_GGUF_MAGIC))
    if magic != _GGUF_MAGIC:
        raise unavailable(
            source, "it is neither a GGUF file nor a folder", "give a .gguf file or an MLX folder"
        )
    return open_gguf(source)


def _plan(source: Path, models: Path, wish: Wish, on_progress: OnProgress) -> Work:
    """Refuses what cannot be converted or written before any work, and says what it will be."""
    work = plan_work(_open_file(source), wish)
    plan = describe_work(work, models)
    needed = plan.size_bytes + _ROOM_BYTES
    if plan.free_bytes < needed:
        raise _disk_full(models, plan.free_bytes, needed)
    on_progress(tell_plan(plan), 0.0)
    return work


def _stated_context(work: Work, stated: Stated) -> int | None:
    """What the place of the file says, no longer than the model was made for."""
    made_for: int = work.layout.config["max_position_embeddings"]
    return min(stated.context_tokens, made_for) if stated.context_tokens else None


def _tell_what_becomes_cold(target: Path, record: ModelRecord, on_progress: OnProgress) -> None:
    """Said before the record is replaced: KV of another tag cannot be used any more."""
    before = _record_of(target)
    if before is not None and before.tag != record.tag:
        on_progress(f"replacing {record.name}: its stored contexts become cold", 0.0)


def _model_name(source: Path, asked: str | None) -> ModelName:
    """The asked name if it is legal, else one made from the source's name."""
    if asked is not None:
        if is_model_name(asked):
            return ModelName(asked)
        raise HotseatError(
            "invalid_request",
            f"{asked!r} is no model name; use letters, digits and ._:@+- (a letter or digit first)",
            name=asked,
        )
    stem = name_of_source(source)
    made = re.sub(r"[^A-Za-z0-9._:@+\-]+", "-", stem).lstrip("._:@+-")[:64]
    if not is_model_name(made):
        raise HotseatError(
            "invalid_request", f"no name can be made from {stem!r}; give one with --name", name=stem
        )
    return ModelName(made)


def _check_name_is_free(target: Path, source: Path) -> None:
    """Importing the same source again replaces it; another source under its name is refused."""
    record = _record_of(target)
    if record is None:
        return
    if not is_same_source(Path(record.source.path), source):
        raise HotseatError(
            "invalid_request",
            f"the name {target.name!r} belongs to a model made from {record.source.path}; give "
            "another one with --name, or remove that model first",
            name=target.name,
            source=record.source.path,
        )


def _record_of(folder: Path) -> ModelRecord | None:
    """The record that lies there, if one can be read."""
    try:
        return msgspec.json.decode((folder / RECORD_FILE).read_bytes(), type=ModelRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextmanager
def _only_import(models: Path, on_progress: OnProgress) -> Iterator[None]:
    """One import at a time per home: staging folders seen under the lock are leftovers."""
    descriptor = os.open(models / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress("waiting for another import", 0.0)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _staging_folder(models: Path) -> Iterator[Path]:
    staging = models / f"{_STAGING}{secrets.token_hex(6)}"
    staging.mkdir(mode=0o700)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, models: Path, name: ModelName) -> None:
    """Puts a finished folder under its name; an earlier one of that name is moved away first."""
    sync_tree(staging)
    target = models / name
    replaced = models / f"{_REPLACED}{name}"
    if target.exists():
        target.rename(replaced)
    staging.rename(target)
    sync_file(models)
    shutil.rmtree(replaced, ignore_errors=True)


def _remove_leftovers(models: Path) -> None:
    """What a killed import left: staging folders go, a model moved away comes back."""
    for entry in models.iterdir():
        if entry.name.startswith(_STAGING):
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith(_REPLACED):
            target = models / entry.name.removeprefix(_REPLACED)
            if target.exists():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.rename(target)


def _disk_full(models: Path, free: int, needed: int) -> HotseatError:
    return HotseatError(
        "disk_full",
        f"{models}: {free} bytes free, about {needed} are needed; make room, then import again",
        free_bytes=free,
        needed_bytes=needed,
    )


def _disk_error(error: OSError, models: Path) -> HotseatError:
    free = shutil.disk_usage(models).free
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or free < _FULL_BYTES:
        return _disk_full(models, free, _FULL_BYTES)
    return HotseatError(
        "model_unavailable",
        f"{error.filename or models}: {error.strerror or error}; check the path and its rights",
        path=str(error.filename or models),
    )
