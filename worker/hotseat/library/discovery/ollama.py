"""Ollama's store: manifests that name blobs. Reads manifests and headers; writes nothing there.

manifests/REGISTRY/OWNER/NAME/TAG   JSON: layers with media type, digest and size
blobs/sha256-HEX
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.library.discovery.looking import Spot, look_at_gguf
from hotseat.protocol.found_models import FoundModel

_VARIABLE: Final = "OLLAMA_MODELS"
_MODEL: Final = "application/vnd.ollama.image.model"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_DEFAULT_OWNER: Final = "library"
_LEVELS: Final = 4


class _Layer(Struct, frozen=True):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""
    size: int = 0


class _Manifest(Struct, frozen=True):
    layers: tuple[_Layer, ...] = ()


_DECODER: Final = msgspec.json.Decoder(_Manifest)


def ollama_store() -> Path:
    """Where Ollama keeps models here: its variable, else its usual folder."""
    return Path(os.environ.get(_VARIABLE) or "~/.ollama/models").expanduser()


def find_ollama(store: Path) -> Iterator[FoundModel]:
    """Every manifest with a model layer, by name and tag."""
    manifests = store / "manifests"
    for file in sorted(manifests.glob("/".join("*" * _LEVELS))):
        if not file.is_file() or file.name.startswith("."):
            continue
        owner, model, tag = file.parts[-3:]
        asked = f"{model}:{tag}" if owner == _DEFAULT_OWNER else f"{owner}/{model}:{tag}"
        yield _look(store, file, asked, f"{model}:{tag}")


def _look(store: Path, file: Path, asked: str, name: str) -> FoundModel:
    try:
        manifest = _DECODER.decode(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return _unusable(file, name, f"its manifest is not readable ({error})")
    layer = next((one for one in manifest.layers if one.media_type == _MODEL), None)
    digest = _DIGEST.fullmatch(layer.digest) if layer is not None else None
    if layer is None or digest is None:
        return _unusable(file, name, "its manifest names no model")
    blob = store / "blobs" / f"sha256-{digest[1]}"
    if not blob.is_file():
        return _unusable(file, name, f"blob {blob.name} is missing; `ollama pull {asked}`")
    spot = Spot(name=name, place="Ollama", source=blob)
    return look_at_gguf(spot, blob, layer.size)


def _unusable(file: Path, name: str, reason: str) -> FoundModel:
    return FoundModel(
        name=name,
        place="Ollama",
        kind="other",
        path=str(file),
        source=str(file),
        fault="incomplete",
        reason=reason,
    )
