"""Which models are registered, and whether their files are still those that were registered.

Reads `model.json` files only; never opens weights and never imports what could.
"""

import difflib
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, is_model_name
from hotseat.protocol.limits import PROTOCOL_MAX
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import RECORD_FILE, RECORD_VERSION, ModelRecord
from hotseat.protocol.model_files import added_file
from hotseat.protocol.tags import adapter_digest, as_stored_now, model_tag
from hotseat.protocol.views import ModelView
from hotseat.supervisor.conversation.framing import registered_before
from hotseat.supervisor.machine.volumes import missing_volume
from hotseat.supervisor.models.adapters import Adapter, Adapters
from hotseat.supervisor.models.rules.names import match_typed
from hotseat.supervisor.models.rules.prefill import as_fed_on
from hotseat.supervisor.settings.aliases import other_names, resolve_name
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings

_RECORD: Final = msgspec.json.Decoder(ModelRecord)
_NEAR: Final = 3
ModelState = Literal["seated", "ready", "unfit", "unavailable", "quarantined"]


class _Entry(Struct, frozen=True):
    """A `model.json` as it was read: the record, or why there is none."""

    folder: Path
    stamp: tuple[int, int, int]
    record: ModelRecord | None
    reason: str = ""


def nobody() -> None:
    """Who holds the seat while no daemon runs."""


class Registry:
    """The registered models. Every call looks for changes; unchanged records are not read again."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        seated: Callable[[], str | None],
        system: str = sys.platform,
    ) -> None:
        """`seated` gives the model that holds the seat, for the name `seated`."""
        self._system = system
        self._home = home
        self._settings = settings
        self._entries: dict[ModelName, _Entry] = {}
        self._adapters = Adapters()
        self._seated = seated
        self.learn(settings)

    def learn(self, settings: Settings) -> None:
        """Reads adapters that settings name, before `use`; for a thread, since it takes time."""
        self._adapters.learn(m.adapter for m in settings.models.values() if m.adapter is not None)

    def use(self, settings: Settings) -> None:
        """Takes new settings; what was read under the old ones is forgotten."""
        self._settings = settings
        self._entries = {}

    def names(self) -> list[ModelName]:
        """All registered names, also of models that cannot be used now."""
        self._scan()
        return sorted(self._entries)

    def records(self) -> list[ModelRecord]:
        """Records that can be read, by name; their files are not looked at."""
        self._scan()
        return [
            entry.record for _, entry in sorted(self._entries.items()) if entry.record is not None
        ]

    def resolve(self, name: str) -> str:
        """What a name stands for now: itself, what an alias says, or the one model it can mean."""
        self._scan()
        name = resolve_name(name, self._settings.aliases, self._entries, self._seated())
        if name in self._entries:
            return name
        return match_typed(name, self._entries) or name

    def get(self, name: str) -> ModelRecord:
        """The record of a model that can be loaded as it was registered.

        `name` may be an alias. Raises `HotseatError`: unknown_model {near}, model_unavailable
        {model, reason}, not_seated for an alias of an empty seat.
        """
        name = self.resolve(name)
        entry = self._entry(name)
        reason = entry.reason or self._adapter_fault(name) or _changed_file(entry.record)
        if entry.record is None or reason:
            raise HotseatError(
                "model_unavailable",
                f"model {name!r} cannot be used: {reason}; {_way_out(reason)}",
                model=name,
                reason=reason,
            )
        return entry.record

    def view(
        self, record: ModelRecord, *, state: ModelState | None = None, reason: str = ""
    ) -> ModelView:
        """What clients see of a record; `state` is what the caller knows better (seated, ...)."""
        if state is None:
            state, reason = _state_of(record)
        return ModelView(
            name=record.name,
            aliases=other_names(record.name, self._settings.aliases, self._entries, self._seated()),
            state=state,
            reason=reason,
            architecture=record.architecture,
            quantisation=record.quantisation,
            parameters=record.parameters,
            weights_bytes=record.weights_bytes,
            context_tokens=record.context_tokens,
            kv_bytes_per_token=record.kv_bytes_per_token,
            state_bytes=record.state_bytes,
            capabilities=None if record.unfit_reason else record.capabilities,
            append=record.template.mode,
            licence=record.source.licence,
            tag=record.tag,
            path=record.path,
            template=record.template,
            sampling=self._settings.model(record.name).sampling.fill(
                Sampling(), record.sampling, PROTOCOL_MAX
            ),
        )

    def damaged(self) -> list[ModelView]:
        """Registered names whose record cannot be read, with the reason."""
        self._scan()
        return [
            ModelView(name=name, state="unavailable", reason=entry.reason, path=str(entry.folder))
            for name, entry in sorted(self._entries.items())
            if entry.record is None
        ]

    def remove(self, name: str) -> int:
        """Unregisters a model and deletes what hotseat made for it; returns the bytes freed.

        A folder that was registered in place keeps everything but `model.json`. Raises
        `HotseatError`: unknown_model, or invalid_request for a model named in config.toml.
        """
        self.own_folder(name)
        entry = self._entry(name)
        is_ours = entry.record is not None and entry.record.source.kind == "gguf"
        freed = _delete_made(entry.folder) if is_ours else _delete_record(entry.folder)
        self._entries.pop(ModelName(name), None)
        return freed

    def folder(self, name: str) -> Path:
        """Where the record of a model lies. Raises `HotseatError` (unknown_model)."""
        self._scan()
        return self._entry(name).folder

    def own_folder(self, name: str) -> Path:
        """The folder that makes this name a model's, for whoever changes it.

        Raises `HotseatError`: unknown_model, or invalid_request for a model named in config.toml.
        """
        folder = self.folder(name)
        if self._settings.model(ModelName(name)).path is not None:
            raise HotseatError(
                "invalid_request",
                f"model {name!r} is registered by [models.{name}] path in {self._home.config};"
                " change that line",
                model=name,
            )
        return folder

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(ModelName(name))
        if entry is not None:
            return entry
        gone = missing_volume(self._home.models_dir)
        if gone:
            raise HotseatError(
                "model_unavailable",
                f"model {name!r} cannot be looked for in {self._home.models_dir}: {gone}; mount it",
                model=name,
                reason=gone,
            )
        known = sorted(self._entries)
        near = difflib.get_close_matches(name, known, n=_NEAR)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif known:
            hint = "see `hotseat models`"
        else:
            hint = "none is registered yet: `hotseat import SOURCE`"
        raise HotseatError(
            "unknown_model", f"no model is registered as {name!r}; {hint}", model=name, near=near
        )

    def _scan(self) -> None:
        found: dict[ModelName, _Entry] = {}
        for name, folder in self._folders():
            stamp = _stamp(folder / RECORD_FILE)
            if stamp is None:
                reason = missing_volume(folder)
                if reason:
                    found[name] = _Entry(folder, (0, 0, 0), None, reason)
                continue
            before = self._entries.get(name)
            if before is not None and (before.folder, before.stamp) == (folder, stamp):
                found[name] = before
            else:
                found[name] = self._read(name, folder, stamp)
        self._entries = found

    def _folders(self) -> list[tuple[ModelName, Path]]:
        """Where records may lie: below the home, and where the settings say."""
        folders: list[tuple[ModelName, Path]] = []
        try:
            with os.scandir(self._home.models_dir) as listing:
                folders = [
                    (ModelName(item.name), Path(item.path))
                    for item in listing
                    if is_model_name(item.name)
                ]
        except FileNotFoundError:
            folders = []
        for name, model in self._settings.models.items():
            if model.path is not None:
                folders.append((name, Path(model.path)))
        return folders

    def _read(self, name: ModelName, folder: Path, stamp: tuple[int, int, int]) -> _Entry:
        try:
            record = _RECORD.decode((folder / RECORD_FILE).read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _Entry(folder, stamp, None, f"{RECORD_FILE} is damaged ({error})")
        if record.record_version != RECORD_VERSION:
            reason = f"{RECORD_FILE} has version {record.record_version}, not {RECORD_VERSION}"
            return _Entry(folder, stamp, None, reason)
        record = as_stored_now(record)
        chosen = self._settings.model(name)
        # The folder names the model: renaming it renames the model.
        record = structs.replace(
            as_fed_on(record, self._system, chosen.prefill_chunk),
            name=name,
            context_tokens=min(
                record.context_tokens, chosen.context_tokens or record.context_tokens
            ),
        )
        if chosen.adapter is None:
            return _Entry(folder, stamp, record)
        adapter = self._adapters.get(chosen.adapter)
        if adapter.reason:
            return _Entry(folder, stamp, None, adapter.reason)
        return _Entry(folder, stamp, _adapted(record, chosen.adapter, adapter))

    def _adapter_fault(self, name: str) -> str:
        """Why the adapter that settings give this model is not the one it was planned with."""
        adapter = self._settings.model(ModelName(name)).adapter
        return "" if adapter is None else self._adapters.get(adapter).reason


def _adapted(record: ModelRecord, folder: str, adapter: Adapter) -> ModelRecord:
    """The record with this adapter in place of the one it was registered with; another tag."""
    own = [file for file in record.files if not Path(file.name).is_absolute()]
    before = sum(file.size_bytes for file in record.files) - sum(file.size_bytes for file in own)
    parts = structs.replace(record.tag_parts, adapter=adapter_digest(adapter.files))
    return structs.replace(
        record,
        adapter=folder,
        files=(*own, *adapter.files),
        tag_parts=parts,
        tag=model_tag(parts),
        weights_bytes=record.weights_bytes
        - before
        + sum(file.size_bytes for file in adapter.files),
    )


def _state_of(record: ModelRecord) -> tuple[ModelState, str]:
    if record.unfit_reason:
        return "unfit", record.unfit_reason
    reason = _changed_file(record)
    if reason:
        return "unavailable", f"{reason}; {_way_out(reason)}"
    return "ready", registered_before(record)


def _way_out(reason: str) -> str:
    """A volume comes back; a changed file does not."""
    if reason.startswith("adapter"):
        return "`hotseat reload` when it is in place, or change the model's `adapter` setting"
    return "mount it" if "mounted" in reason else "import it again"


def _changed_file(record: ModelRecord | None) -> str:
    """Why the model's files are not those that were registered; empty if they are."""
    if record is None:
        return "its record is unreadable"
    for file in record.files:
        path = Path(record.path) / file.name
        try:
            found = path.stat()
        except OSError as error:
            return missing_volume(path) or f"file {path} is missing ({error.strerror})"
        if found.st_size != file.size_bytes:
            return (
                f"file {path} has {found.st_size} bytes, it had {file.size_bytes} when registered"
            )
        if found.st_mtime_ns != file.mtime_ns:
            return f"file {path} was changed after it was registered"
    if added := added_file(record):
        return f"file {Path(record.path) / added} came after it was registered"
    return ""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _delete_record(folder: Path) -> int:
    """The user's own folder may be the one the record lies in: only the record goes."""
    record = folder / RECORD_FILE
    freed = record.stat().st_size
    record.unlink()
    if not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
    return freed


def _delete_made(folder: Path) -> int:
    """Deletes an imported folder; a kill in between leaves nothing that looks like a model."""
    if folder.is_symlink():
        return _delete_record(folder)
    doomed = folder.with_name(f".removed-{secrets.token_hex(4)}")
    folder.rename(doomed)
    freed = sum(file.stat().st_size for file in doomed.rglob("*") if file.is_file())
    shutil.rmtree(doomed)
    return freed
