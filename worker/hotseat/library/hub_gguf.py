"""GGUF files of a repository of the hub: which models they are, and the head of one of them.

Must not know what is done with them or how refusals of the hub are told.
"""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub import hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
)

from hotseat.library.discovery.gguf_head import parse_head
from hotseat.library.gguf.parts import is_later_part, part_files
from hotseat.protocol.limits import MIB

_ENDING: Final = ".gguf"
_PROJECTOR: Final = "mmproj"
_HEAD_BYTES: Final = MIB
"""What stands before the vocabulary is some KiB."""
_LISTED: Final = 40


def gguf_models(sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Files by the name of the first, for each model whose parts are all there; no projectors."""
    found = {}
    for name in sorted(sizes):
        path = Path(name)
        if not name.lower().endswith(_ENDING) or _PROJECTOR in path.name.lower():
            continue
        parts = tuple(str(part) for part in part_files(path))
        if not is_later_part(path) and all(part in sizes for part in parts):
            found[name] = parts
    return found


def list_models(repository: str, models: Mapping[str, tuple[str, ...]], sizes: Any) -> str:
    """Names with sizes, the smallest first."""
    totals = sorted((sum(sizes[part] for part in parts), name) for name, parts in models.items())
    lines = [f"{name} ({total / MIB:,.0f} MiB)" for total, name in totals[:_LISTED]]
    more = len(totals) - len(lines)
    return f"{repository} holds {', '.join(lines)}{f' and {more} more' if more else ''}"


def read_remote_head(repository: str, revision: str, name: str) -> Mapping[str, Any]:
    """Metadata in front of the vocabulary; empty if what comes first is no such header.

    Raises what the hub's client raises.
    """
    url = hf_hub_url(repository, name, revision=revision)
    headers = build_hf_headers() | {"Range": f"bytes=0-{_HEAD_BYTES - 1}"}
    data = b""
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
        response.raise_for_status()
        for piece in response.iter_bytes():
            data += piece
            if len(data) >= _HEAD_BYTES:
                break
    try:
        return parse_head(io.BytesIO(data), len(data))
    except (struct.error, ValueError, OverflowError):
        return {}
