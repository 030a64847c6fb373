"""Looks at one folder or file: what it is, whether it is whole, and what it would cost.

Reads config.json and headers. A fault is an answer here, not an error.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.library.discovery.estimating import estimate_folder, estimate_gguf
from hotseat.library.discovery.gguf_head import read_head
from hotseat.library.folder import open_folder
from hotseat.library.gguf.parts import is_later_part, part_files
from hotseat.library.mlx_kinds import why_unsupported
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.found_models import Fault, FoundKind, FoundModel, Place
from hotseat.protocol.model_files import CONFIG_FILE

_PROJECTOR: Final = "mmproj"
_OTHER_WEIGHTS: Final = (".bin", ".pt", ".pth", ".onnx", ".msgpack", ".h5", ".npz")


class Spot(Struct, frozen=True, kw_only=True):
    """Where something was found, and what it is called there."""

    name: str
    place: Place
    source: Path | str
    """What `hotseat import` takes."""
    owner: str = ""

    def found(self, kind: FoundKind, path: Path) -> FoundModel:
        """What lies here, before anything of it is read."""
        return FoundModel(
            name=self.name,
            place=self.place,
            kind=kind,
            path=str(path),
            source=str(self.source),
            owner=self.owner,
        )


def look_at_folder(spot: Spot, folder: Path, unfinished: str = "") -> FoundModel:
    """A folder with config.json. `unfinished`: what the place itself says is not there yet."""
    found = spot.found("MLX", folder)
    try:
        found = replace(found, size_bytes=_size(folder))
        opened = open_folder(folder)
    except HotseatError as error:
        fault: Fault = "unsupported" if _holds_other_weights(folder) else "incomplete"
        reason = error.message.removeprefix(f"{folder}: ")
        return replace(found, fault=fault, reason=unfinished or reason)
    except OSError as error:
        return replace(found, fault="incomplete", reason=f"not readable ({error.strerror})")
    reason = why_unsupported(folder, opened.config, opened.tensors)
    if reason:
        return replace(found, fault="unsupported", reason=reason)
    return replace(found, record=estimate_folder(spot.name, opened))


def look_at_gguf(spot: Spot, file: Path, size_bytes: int = 0) -> FoundModel:
    """A GGUF file. `size_bytes`: what the place says it has to have; 0: it does not say."""
    found = spot.found("GGUF", file)
    try:
        there = file.stat().st_size
        found = replace(found, size_bytes=there)
        if there < size_bytes:
            reason = f"{there} of {size_bytes} bytes are there"
            return replace(found, fault="incomplete", reason=reason)
        head = read_head(file)
    except HotseatError as error:
        reason = error.message.removeprefix(f"{file}: ")
        return replace(found, fault="incomplete", reason=reason)
    except OSError as error:
        return replace(found, fault="incomplete", reason=f"not readable ({error.strerror})")
    parts = part_files(file)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        what = f"{len(missing)} of {len(parts)} parts are missing: {', '.join(missing[:3])}"
        return replace(found, fault="incomplete", reason=what)
    found = replace(found, size_bytes=sum(part.stat().st_size for part in parts))
    kind = str(head.get("general.architecture", ""))
    known = _convertible()
    if kind not in known:
        reason = f"GGUF of kind {kind or 'unknown'}; convertible are {', '.join(known)}"
        return replace(found, fault="unsupported", reason=reason)
    return replace(found, record=estimate_gguf(spot.name, file, head, found.size_bytes))


def gguf_files(folder: Path) -> list[Path]:
    """GGUF files that are models: one of the parts of each, no projectors of images."""
    files = sorted(file for file in folder.glob("*.gguf") if _PROJECTOR not in file.name.lower())
    return [file for file in files if not is_later_part(file)]


def look_at_rest(spot: Spot, folder: Path) -> FoundModel:
    """A folder that is neither: what lies there instead, so that nobody wonders."""
    endings = {file.suffix.lower() for file in folder.iterdir()}
    other = sorted(endings & set(_OTHER_WEIGHTS))
    if other:
        reason = f"weights of another kind ({', '.join(other)}); fetch an MLX conversion"
        fault: Fault = "unsupported"
    else:
        fault, reason = "incomplete", "it has neither config.json nor a GGUF file"
    found = spot.found("other", folder)
    return replace(found, size_bytes=_size(folder), fault=fault, reason=reason)


def has_config(folder: Path) -> bool:
    """True for a folder that means to be a model."""
    return (folder / CONFIG_FILE).is_file()


def _holds_other_weights(folder: Path) -> bool:
    """True where weights are there, and none that MLX reads: no download that broke off."""
    endings = {file.suffix.lower() for file in folder.iterdir()}
    return bool(endings & set(_OTHER_WEIGHTS)) and ".safetensors" not in endings


def _convertible() -> tuple[str, ...]:
    from hotseat.library.gguf.families import SUPPORTED  # noqa: PLC0415 - costs half a second

    return SUPPORTED


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; a link counts as what it leads to."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
