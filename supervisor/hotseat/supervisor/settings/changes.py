"""What differs between two sets of settings, and what that asks for. Pure."""

from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import ModelName
from hotseat.supervisor.settings.values import ModelSettings, Settings

NEEDS_RESTART: Final = frozenset(
    {"seat.lock_path", "seat.standby", "folders.models", "folders.kv", "folders.logs"}
)
"""Taken once, when the daemon starts."""
NEEDS_SWAP: Final = (
    "context_tokens",
    "prefill_chunk",
    "limit_bytes",
    "kv_budget_bytes",
    "path",
    "adapter",
)
"""What a worker is told when it loads a model."""


class SettingsChange(Struct, frozen=True, kw_only=True):
    """`changed` are dotted names; `restart` those that only a new daemon takes."""

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    reseats: bool = False
    """The seated model's own settings changed: it is swapped for itself, contexts first."""


def compare_settings(old: Settings, new: Settings, seated: str | None) -> SettingsChange:
    """What a reload would do. The running model is only touched for settings of its own."""
    changed: list[str] = []
    for name in Settings.__struct_fields__:
        if name not in {"models", "aliases"}:
            changed += _fields(name, getattr(old, name), getattr(new, name))
    for name in {**old.aliases, **new.aliases}:
        if old.aliases.get(name) != new.aliases.get(name):
            changed.append(f"aliases.{name}")
    for model in {**old.models, **new.models}:
        changed += _fields(f"models.{model}", old.model(model), new.model(model))
    return SettingsChange(
        changed=tuple(changed),
        restart=tuple(name for name in changed if name in NEEDS_RESTART),
        reseats=seated is not None and _differ(old, new, ModelName(seated)),
    )


def _differ(old: Settings, new: Settings, model: ModelName) -> bool:
    before, after = old.model(model), new.model(model)
    return any(getattr(before, name) != getattr(after, name) for name in NEEDS_SWAP)


def _fields(where: str, old: Struct, new: Struct) -> list[str]:
    found: list[str] = []
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, Struct) and not isinstance(old, Settings | ModelSettings):
            found += _fields(f"{where}.{name}", before, after)
        else:
            found.append(f"{where}.{name}")
    return found
