"""Where programs leave models: the hub's cache, LM Studio's folders, any folder one names."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hotseat.library.discovery.looking import (
    Spot,
    gguf_files,
    has_config,
    look_at_folder,
    look_at_gguf,
    look_at_rest,
)
from hotseat.library.folder import unavailable
from hotseat.library.hub_cache import name_of_source, repository_name, resolve_source
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.found_models import FoundModel, Place
from hotseat.protocol.model_files import CONFIG_FILE

LM_STUDIO: Final = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
_DEEPEST: Final = 4
"""Levels of folders below a root that are looked into."""
_REPOSITORIES: Final = "models--*"
_UNFINISHED: Final = "*.incomplete"


def hub_cache() -> Path:
    """Where the hub's own library keeps repositories here, by its variables."""
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415 - costs start-up time

    return Path(HF_HUB_CACHE)


def find_in_hub(cache: Path) -> Iterator[FoundModel]:
    """Every repository of models in the cache, in the snapshot that `import` would take."""
    from huggingface_hub import scan_cache_dir  # noqa: PLC0415 - costs start-up time

    repositories = {
        Path(repository.repo_path): repository.repo_id
        for repository in scan_cache_dir(cache).repos
        if repository.repo_type == "model"
    }
    # What the scan leaves out has no snapshot yet, or no longer.
    folders = sorted(cache.glob(_REPOSITORIES))
    for folder in folders:
        name = repositories.get(folder, repository_name(folder))
        spot = Spot(
            name=name.rpartition("/")[2],
            place="hub cache",
            source=folder,
            owner=name.rpartition("/")[0],
        )
        try:
            snapshot = resolve_source(folder)
            if snapshot == folder:
                raise unavailable(folder, "it holds no snapshot", "download the model again")
        except HotseatError as error:
            reason = error.message.removeprefix(f"{folder}: ")
            yield FoundModel(
                name=spot.name,
                place=spot.place,
                kind="other",
                path=str(folder),
                source=str(folder),
                owner=spot.owner,
                fault="incomplete",
                reason=_unfinished(folder, name) or reason,
            )
        else:
            yield from _look(spot, snapshot, _unfinished(folder, name))


def _unfinished(folder: Path, repository: str) -> str:
    """That downloads of a repository broke off, with the way to go on; empty if none did."""
    count = sum(1 for _ in (folder / "blobs").glob(_UNFINISHED))
    return f"{count} downloads are not finished; `hotseat pull {repository}`" if count else ""


def find_in_folders(root: Path, place: Place) -> Iterator[FoundModel]:
    """Folders with config.json or GGUF files below a root, which may be one itself."""
    if not root.is_dir():
        return
    for folder, names in _folders(root):
        if CONFIG_FILE in names or any(name.endswith(".gguf") for name in names):
            owner = folder.parent.name if place == "LM Studio" else ""
            spot = Spot(name=name_of_source(folder), place=place, source=folder, owner=owner)
            yield from _look(spot, folder, "")


def _look(spot: Spot, folder: Path, unfinished: str) -> Iterator[FoundModel]:
    """What a folder holds; one that cannot be read keeps no other back."""
    try:
        yield from _look_inside(spot, folder, unfinished)
    except OSError as error:
        yield FoundModel(
            name=spot.name,
            place=spot.place,
            kind="other",
            path=str(folder),
            source=str(spot.source),
            owner=spot.owner,
            fault="incomplete",
            reason=f"not readable ({error.strerror or error})",
        )


def _look_inside(spot: Spot, folder: Path, unfinished: str) -> Iterator[FoundModel]:
    """One MLX model, or GGUF files of which each is a model."""
    files = gguf_files(folder)
    if not files and not has_config(folder):
        yield look_at_rest(spot, folder)
        return
    if has_config(folder) and not files:
        yield look_at_folder(spot, folder, unfinished)
        return
    for file in files:
        named = Spot(name=file.stem, place=spot.place, source=file, owner=spot.owner)
        yield look_at_gguf(named, file)


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders to look into with the names of their files; links and hidden ones are left out."""
    for path, below, names in os.walk(root):
        folder = Path(path)
        depth = len(folder.relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith("."))
        if depth >= _DEEPEST:
            below.clear()
        yield folder, names
