"""What lies on this machine and could be a model, as headers tell. Pure.

Written by `hotseat.library`, read by the command line.
"""

from typing import Literal

from msgspec import Struct

from hotseat.protocol.model import ModelRecord

Place = Literal["hub cache", "LM Studio", "Ollama", "folder"]
FoundKind = Literal["MLX", "GGUF", "other"]
Fault = Literal["", "incomplete", "unsupported"]


class FoundModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that somebody's program left somewhere.

    `source` is what `hotseat import` takes. `record` is as much of a record as planning needs:
    weights to the byte, KV by what the configuration says; None where there is a fault.
    """

    name: str
    place: Place
    kind: FoundKind
    path: str
    """The folder or file itself."""
    source: str
    size_bytes: int = 0
    owner: str = ""
    """Who published it, where the place tells."""
    fault: Fault = ""
    reason: str = ""
    """What is missing or not supported; empty without a fault."""
    record: ModelRecord | None = None


class Discovery(Struct, frozen=True, kw_only=True):
    """All that was found, by place and path. `working_set_bytes`: what Metal allows here."""

    models: tuple[FoundModel, ...]
    working_set_bytes: int | None = None
    unread: tuple[str, ...] = ()
    """Places that could not be read, with the reason."""
