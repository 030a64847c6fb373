"""Shows, renames, verifies and removes registered models; files of the home are enough."""

from os.path import realpath
from pathlib import Path
from typing import Final

from hotseat.cli.home.library_process import OnProgress, run_library
from hotseat.cli.home.removal import refuse_in_use
from hotseat.cli.terminal.output import note
from hotseat.cli.views.model_facts import ModelFacts, Removal
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import RECORD_FILE, ModelRecord
from hotseat.protocol.process_lines import CheckedFile
from hotseat.supervisor.kv.model_store import rename_model, stored_of
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.placed_home import open_home

_PLACES: Final = (
    ("/snapshots/", "the hub's cache"),
    ("/.lmstudio/", "LM Studio"),
    ("/lm-studio/", "LM Studio"),
    ("/blobs/sha256-", "Ollama"),
)


class Library:
    """The registered models of this home."""

    def __init__(self) -> None:
        self._home, settings = open_home()
        self._registry = Registry(self._home, settings, nobody)

    def find(self, asked: str) -> str:
        """The registered name that is meant, said on stderr where it was not typed in full."""
        name = self._registry.resolve(asked)
        self._registry.folder(name)
        if name != asked:
            note(f"{asked}: {name}")
        return name

    def show(self, asked: str) -> ModelFacts:
        """Everything about a model. Raises `HotseatError`: unknown_model, model_unavailable."""
        record = self._record(self.find(asked))
        view = self._registry.view(record)
        stored = stored_of(self._home, record)
        return ModelFacts(
            name=record.name,
            state=view.state,
            reason=view.reason,
            architecture=record.architecture,
            quantisation=record.quantisation,
            parameters=record.parameters,
            weights_bytes=record.weights_bytes,
            left_on_disk=record.left_on_disk,
            context_tokens=record.context_tokens,
            kv_bytes_per_token=record.kv_bytes_per_token,
            tag=record.tag,
            tag_parts=record.tag_parts,
            template=record.template,
            eos_token_ids=record.eos_token_ids,
            sampling=view.sampling,
            path=record.path,
            is_copy=is_copy(self._home, record),
            used_by=used_by(record.path),
            also_registered_as=self._sharing(record, by_tag=False),
            source=record.source,
            adapter=record.adapter,
            sessions=stored.sessions,
            kv_bytes=stored.kv_bytes,
        )

    def verify(self, asked: str, on_progress: OnProgress) -> tuple[str, tuple[CheckedFile, ...]]:
        """The name, and each file against its digest; reads all weights."""
        name = self.find(asked)
        folder = self._registry.folder(name)
        checked = run_library(["verify", str(folder / RECORD_FILE)], on_progress).checked
        if checked is None:
            raise HotseatError("internal", "the library ended without a finding")
        return name, checked

    def plan_removal(self, name: str) -> Removal:
        """What removing would do; nothing is done. Raises `HotseatError` (unknown_model)."""
        self._registry.own_folder(name)
        try:
            record = self._record(name)
        except HotseatError:
            return Removal(
                name=name, frees_bytes=0, stays="", sessions=0, kv_bytes=0, shared_with=()
            )
        stored, copy = stored_of(self._home, record), is_copy(self._home, record)
        return Removal(
            name=name,
            frees_bytes=sum(file.size_bytes for file in record.files) if copy else 0,
            stays=record.source.path if copy else record.path,
            sessions=stored.sessions,
            kv_bytes=stored.kv_bytes,
            shared_with=self._sharing(record, by_tag=True),
        )

    def _record(self, name: str) -> ModelRecord:
        found = next((one for one in self._registry.records() if one.name == name), None)
        return found if found is not None else self._registry.get(name)

    def _sharing(self, record: ModelRecord, *, by_tag: bool) -> tuple[str, ...]:
        """Other names for the same contexts, or for the same folder."""
        return tuple(
            other.name
            for other in self._registry.records()
            if other.name != record.name
            and (
                other.tag == record.tag if by_tag else realpath(other.path) == realpath(record.path)
            )
        )


def rename(old: str, new: str) -> tuple[str, int]:
    """The old name in full, and how many sessions went along. Raises `HotseatError`."""
    name = Library().find(old)
    refuse_in_use(name)
    return name, rename_model(name, new)


def is_copy(home: Home, record: ModelRecord) -> bool:
    """True where hotseat made the files: they lie in the folder of the record."""
    return Path(record.path).parent == home.models_dir and record.source.kind == "gguf"


def used_by(path: str) -> str:
    """Whose folder a path lies in, as its names tell; empty for a folder of the user's own."""
    return next((owner for part, owner in _PLACES if part in path), "")
