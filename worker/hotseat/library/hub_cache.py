"""Folders of the Hugging Face hub's cache: what repository one belongs to, and its snapshot.

Reads names and `refs` only. Must not know what a model consists of.
"""

from pathlib import Path
from typing import Final

from hotseat.library.folder import unavailable
from hotseat.library.gguf.parts import whole_name

_PREFIX: Final = "models--"
_SNAPSHOTS: Final = "snapshots"


def hub_repository(path: Path) -> Path | None:
    """The cache folder of the repository that `path` is, or is a snapshot of; None elsewhere."""
    if path.name.startswith(_PREFIX) and (path / _SNAPSHOTS).is_dir():
        return path
    above = path.parent
    if above.name == _SNAPSHOTS and above.parent.name.startswith(_PREFIX):
        return above.parent
    return None


def name_of_source(path: Path) -> str:
    """What a source is called: its repository, a file without ending and part, or a folder."""
    repository = hub_repository(path)
    if repository is not None:
        return repository.name.rpartition("--")[2]
    return whole_name(path) if path.is_file() else path.name


def repository_name(folder: Path) -> str:
    """`OWNER/NAME` of a repository's cache folder."""
    return folder.name.removeprefix(_PREFIX).replace("--", "/", 1)


def resolve_source(path: Path) -> Path:
    """The snapshot of a repository's cache folder that was downloaded last; else `path` itself."""
    if hub_repository(path) != path:
        return path
    reference = path / "refs" / "main"
    if reference.is_file():
        named = path / _SNAPSHOTS / reference.read_text(encoding="utf-8").strip()
        if named.is_dir() and named.parent.name == _SNAPSHOTS:
            return named
    found = sorted(entry for entry in (path / _SNAPSHOTS).iterdir() if entry.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise unavailable(path, "it holds no snapshot", "download the model again")
    names = [entry.name for entry in found]
    raise unavailable(
        path,
        f"refs/main names none of its {len(names)} snapshots ({', '.join(names[:3])})",
        "give one of the folders in snapshots",
        snapshots=names,
    )


def is_same_source(left: Path, right: Path) -> bool:
    """True if both are one path, or lie in the cache folder of one repository."""
    return (hub_repository(left) or left) == (hub_repository(right) or right)
