"""Registered models as Ollama lists them. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from hotseat.gateway.models import find_model
from hotseat.gateway.ollama.body import LATEST
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView, StatusView

_USABLE: Final = frozenset({"seated", "ready"})
_MODIFIED: Final = "2025-01-01T00:00:00Z"
"""Registered models are told apart by their digest, not by a date."""
_NEVER: Final = "9999-12-31T23:59:59Z"
_BILLION, _MILLION = 1_000_000_000, 1_000_000


def tags(views: Sequence[ModelView]) -> dict[str, Any]:
    """GET /api/tags: all that can be asked."""
    return {"models": [_entry(view) for view in views if view.state in _USABLE]}


def running(views: Sequence[ModelView], status: StatusView) -> dict[str, Any]:
    """GET /api/ps: whatever holds the seat. `views` may be of some moments ago, `status` is not."""
    is_seated = status.phase == "ready"
    seated = [view for view in views if view.name == status.model and is_seated]
    held = status.streamed
    return {
        "models": [
            {
                **_entry(view),
                "expires_at": _NEVER,
                "size_vram": view.weights_bytes if held is None else held.resident_bytes,
                "context_length": view.context_tokens,
            }
            for view in seated
        ]
    }


def shown(view: ModelView) -> dict[str, Any]:
    """POST /api/show: one model."""
    template = view.template
    able = ["completion"]
    if template is not None and template.tools and template.tool_parser:
        able.append("tools")
    if template is not None and template.thinking:
        able.append("thinking")
    family = view.architecture or "unknown"
    return {
        "modelfile": f"FROM {view.path or view.name}",
        "parameters": "",
        "template": "",
        "license": view.licence,
        "modified_at": _MODIFIED,
        "details": _details(view),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": view.parameters,
            f"{family}.context_length": view.context_tokens,
        },
        "capabilities": able,
    }


def find_named(views: Sequence[ModelView], name: str) -> ModelView:
    """The model of a name, with the tag that clients put behind it or without."""
    try:
        return find_model(views, name)
    except HotseatError:
        if not name.endswith(LATEST):
            raise
    return find_model(views, name.removesuffix(LATEST))


def _entry(view: ModelView) -> dict[str, Any]:
    return {
        "name": view.name,
        "model": view.name,
        "modified_at": _MODIFIED,
        "size": view.weights_bytes,
        "digest": hashlib.sha256((view.tag or view.name).encode()).hexdigest(),
        "details": _details(view),
    }


def _details(view: ModelView) -> dict[str, Any]:
    family = view.architecture or "unknown"
    return {
        "parent_model": "",
        "format": "mlx",
        "family": family,
        "families": [family],
        "parameter_size": _counted(view.parameters),
        "quantization_level": view.quantisation or "none",
    }


def _counted(parameters: int) -> str:
    if parameters >= _BILLION:
        return f"{parameters / _BILLION:.1f}B"
    return f"{parameters / _MILLION:.1f}M"
