"""All models that are on this machine, from every place that is known. Changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hotseat.library.discovery.ollama import find_ollama
from hotseat.library.discovery.places import LM_STUDIO, find_in_folders, find_in_hub, hub_cache
from hotseat.library.ollama_store import ollama_store
from hotseat.library.working_set import working_set_bytes
from hotseat.protocol.found_models import Discovery, FoundModel

_Finder = Callable[[], Iterator[FoundModel]]


def discover(roots: Sequence[Path]) -> Discovery:
    """What the hub's cache, LM Studio, Ollama and `roots` hold. A place that is away holds none."""
    found: dict[str, FoundModel] = {}
    unread = []
    for place, finder in _places(roots):
        try:
            for model in finder():
                found.setdefault(model.path, model)
        except OSError as error:
            unread.append(f"{place}: {error.strerror or error}")
    return Discovery(
        models=tuple(found.values()),
        working_set_bytes=working_set_bytes(),
        unread=tuple(unread),
    )


def _places(roots: Sequence[Path]) -> Iterator[tuple[Path, _Finder]]:
    cache = hub_cache()
    if cache.is_dir():
        yield cache, partial(find_in_hub, cache)
    for place in LM_STUDIO:
        folder = Path(place).expanduser()
        yield folder, partial(find_in_folders, folder, "LM Studio")
    store = ollama_store()
    yield store, partial(find_ollama, store)
    for root in roots:
        folder = Path(root).expanduser().absolute()
        yield folder, partial(find_in_folders, folder, "folder")
