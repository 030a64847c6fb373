"""Registered models as HTTP clients list them: the fields of both dialects in one object. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView

SEATED: Final = "seated"
"""Stands for whatever holds the seat."""
_CREATED: Final = 1_700_000_000
_USABLE: Final = frozenset({"seated", "ready"})


def model_object(view: ModelView) -> dict[str, Any]:
    """One model."""
    template = view.template
    return {
        "id": view.name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "hotseat",
        "type": "model",
        "display_name": view.name,
        "created_at": datetime.fromtimestamp(_CREATED, tz=UTC).isoformat(),
        "max_input_tokens": view.context_tokens,
        "context_window": view.context_tokens,
        "max_model_len": view.context_tokens,
        "capabilities": {
            "chat": template is not None and template.mode != "raw",
            "tools": template is not None and template.tools and bool(template.tool_parser),
            "reasoning": template is not None and template.thinking,
            "vision": False,
        },
        "seated": view.state == "seated",
    }


def model_list(views: Sequence[ModelView]) -> dict[str, Any]:
    """All that can be asked by name or alias, and what stands for the seated one."""
    usable = [view for view in views if view.state in _USABLE]
    data = [
        {**model_object(view), "id": name, "display_name": name}
        for view in usable
        for name in (view.name, *view.aliases)
    ]
    seated = next((view for view in views if view.state == "seated"), None)
    if seated is not None:
        data.append({**model_object(seated), "id": SEATED, "display_name": SEATED})
    ids = [entry["id"] for entry in data]
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def find_model(views: Sequence[ModelView], name: str) -> ModelView:
    """The model of a name. Raises unknown_model."""
    for view in views:
        if name in (view.name, *view.aliases) or (name == SEATED and view.state == "seated"):
            return view
    known = ", ".join(sorted(view.name for view in views)) or "none"
    raise HotseatError("unknown_model", f"no model {name!r}; registered: {known}", model=name)
