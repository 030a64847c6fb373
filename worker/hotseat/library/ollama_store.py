"""Ollama's store: manifests that name blobs, one of which is a GGUF file. Writes nothing there.

    manifests/REGISTRY/OWNER/NAME/TAG   JSON: layers with media type, digest and size
    blobs/sha256-HEX

Ollama's own template is in the language of Go programs: nothing here translates it, the one inside
of the GGUF file is taken. Must not know what is done with a model.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.library.folder import unavailable
from hotseat.library.stated import Stated
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB

PREFIX: Final = "ollama:"
"""How a source says that it is a name of Ollama's."""
_VARIABLE: Final = "OLLAMA_MODELS"
_KIND: Final = "application/vnd.ollama.image."
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_REGISTRY: Final = "registry.ollama.ai"
_OWNER: Final = "library"
_TAG: Final = "latest"
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEVELS: Final = 4
_LISTED: Final = 8
_LARGEST: Final = MIB
"""Of a manifest or a table of parameters."""
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}
"""Ollama's parameters by their names in generation_config.json."""


class Layer(Struct, frozen=True):
    """A blob by its digest, and what it is for."""

    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""
    size: int = 0


class Manifest(Struct, frozen=True):
    """What a tag consists of."""

    layers: tuple[Layer, ...] = ()

    def layer(self, kind: str) -> Layer | None:
        """The first layer of a kind: model, params, license, adapter."""
        return next((one for one in self.layers if one.media_type == f"{_KIND}{kind}"), None)


class Entry(Struct, frozen=True, kw_only=True):
    """A manifest, and what people call it."""

    file: Path
    asked: str
    """What `ollama pull` and `hotseat import ollama:` take."""
    name: str
    """Model and tag."""


class StoredModel(Struct, frozen=True, kw_only=True):
    """A model of the store, and what its manifest says beside it."""

    name: str
    blob: Path
    stated: Stated


def ollama_store() -> Path:
    """Where Ollama keeps models here: its variable, else its usual folder."""
    return Path(os.environ.get(_VARIABLE) or "~/.ollama/models").expanduser()


def entries(store: Path) -> Iterator[Entry]:
    """Every tag, by its path."""
    for file in sorted((store / "manifests").glob("/".join("*" * _LEVELS))):
        if not file.is_file() or file.name.startswith("."):
            continue
        registry, owner, model, tag = file.parts[-_LEVELS:]
        asked = f"{model}:{tag}" if owner == _OWNER else f"{owner}/{model}:{tag}"
        if registry != _REGISTRY:
            asked = f"{registry}/{owner}/{model}:{tag}"
        yield Entry(file=file, asked=asked, name=f"{model}:{tag}")


def read_manifest(file: Path) -> Manifest:
    """Raises `ValueError`, `RecursionError` or `OSError` for what is none."""
    with file.open("rb") as stream:
        return msgspec.json.decode(stream.read(_LARGEST), type=Manifest)


def blob_of(store: Path, layer: Layer | None) -> Path | None:
    """Where a layer lies; None for a digest that is none, which could lead anywhere."""
    digest = _DIGEST.fullmatch(layer.digest) if layer is not None else None
    return None if digest is None else store / "blobs" / f"sha256-{digest[1]}"


def find_stored(asked: str, store: Path) -> StoredModel:
    """The model that `NAME[:TAG]` means. `HotseatError` model_unavailable if it is not whole."""
    file = _manifest_of(asked, store)
    if not file.is_file():
        raise _not_there(asked, store)
    try:
        manifest = read_manifest(file)
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(file, asked, f"its manifest is not readable ({error})") from error
    if manifest.layer("adapter") is not None:
        raise unavailable(
            file,
            f"{asked} is a model with an adapter of llama.cpp's, which MLX cannot load",
            "import the model it was made from",
        )
    layer = manifest.layer("model")
    blob = blob_of(store, layer)
    if layer is None or blob is None:
        raise _broken(file, asked, "its manifest names no model")
    if not blob.is_file() or blob.stat().st_size < layer.size:
        raise _broken(file, asked, f"blob {blob.name} is not there, or not whole")
    parameters = _parameters(file, asked, blob_of(store, manifest.layer("params")))
    return StoredModel(
        name=f"{file.parent.name}:{file.name}",
        blob=blob,
        stated=Stated(
            generation={
                ours: parameters[key] for key, ours in _SAMPLING.items() if key in parameters
            },
            ends=tuple(str(text) for text in _list(parameters.get("stop"))),
            context_tokens=_context(parameters.get("num_ctx")),
            licence=_first_line(blob_of(store, manifest.layer("license"))),
        ),
    )


def _manifest_of(asked: str, store: Path) -> Path:
    path, _, tag = asked.partition(":")
    words = [*path.split("/"), tag or _TAG]
    missing = _LEVELS - len(words)
    if missing < 0 or not all(_WORD.fullmatch(word) for word in words):
        raise HotseatError(
            "invalid_request",
            f"{PREFIX}{asked} names no model of Ollama's; write {PREFIX}NAME or {PREFIX}NAME:TAG",
            name=asked,
        )
    return store.joinpath("manifests", *(_REGISTRY, _OWNER)[:missing], *words)


def _not_there(asked: str, store: Path) -> HotseatError:
    known = [entry.asked for entry in entries(store)]
    listed = f"; here are {', '.join(known[:_LISTED])}" if known else ""
    return unavailable(
        store,
        f"Ollama's store has no {asked}{listed}",
        f"fetch it with `ollama pull {asked}`, or say where the store is with {_VARIABLE}",
        names=known,
    )


def _broken(file: Path, asked: str, what: str) -> HotseatError:
    return unavailable(file, what, f"fetch it again with `ollama pull {asked}`")


def _parameters(file: Path, asked: str, blob: Path | None) -> dict[str, Any]:
    if blob is None:
        return {}
    try:
        with blob.open("rb") as stream:
            return msgspec.json.decode(stream.read(_LARGEST), type=dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(file, asked, f"its parameters are not readable ({error})") from error


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _context(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _first_line(blob: Path | None) -> str:
    """A licence's title: its text is no name."""
    if blob is None or not blob.is_file():
        return ""
    with blob.open(encoding="utf-8", errors="replace") as stream:
        lines = (line.strip() for line in stream.read(_LARGEST).splitlines())
        return next((line[:100] for line in lines if line), "")
