"""What Ollama's store holds, looked at. Reads manifests and headers; writes nothing there."""

from collections.abc import Iterator
from pathlib import Path

from hotseat.library.discovery.looking import Spot, look_at_gguf
from hotseat.library.ollama_store import PREFIX, Entry, blob_of, entries, read_manifest
from hotseat.protocol.found_models import FoundModel


def find_ollama(store: Path) -> Iterator[FoundModel]:
    """Every manifest with a model layer, by name and tag."""
    for entry in entries(store):
        yield _look(store, entry)


def _look(store: Path, entry: Entry) -> FoundModel:
    try:
        manifest = read_manifest(entry.file)
    except (OSError, ValueError, RecursionError) as error:
        return _unusable(entry, f"its manifest is not readable ({error})")
    layer = manifest.layer("model")
    blob = blob_of(store, layer)
    if layer is None or blob is None:
        return _unusable(entry, "its manifest names no model")
    if not blob.is_file():
        return _unusable(entry, f"blob {blob.name} is missing; `ollama pull {entry.asked}`")
    spot = Spot(name=entry.name, place="Ollama", source=f"{PREFIX}{entry.asked}")
    return look_at_gguf(spot, blob, layer.size)


def _unusable(entry: Entry, reason: str) -> FoundModel:
    return FoundModel(
        name=entry.name,
        place="Ollama",
        kind="other",
        path=str(entry.file),
        source=str(entry.file),
        fault="incomplete",
        reason=reason,
    )
