"""How settings look: as a file that could be used, with what everything means."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.views import ReloadView
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.reference import SettingLine, entries, section_meaning, toml_value
from hotseat.supervisor.settings.values import Settings

_WIDTH: Final = 96
_EXAMPLE: Final = "NAME"
_AGENTS: Final = "http.agents.PRODUCT"


def config_file(given: Path | None) -> Path:
    """The file that is meant."""
    return given if given is not None else Home.find().config


def render_settings(settings: Settings) -> str:
    """A whole config.toml: set values as they are, all others as comments with their defaults."""
    lines: list[str] = []
    section = ""
    listed = list(entries())
    for entry in listed:
        if _EXAMPLE in entry.section or entry.section == _AGENTS:
            continue
        if entry.section != section:
            section = entry.section
            lines += ["", f"[{section}]", *_comment(section_meaning(section))]
        value = getattr(getattr(settings, section), entry.name)
        lines += _setting(entry, value)
    lines += ["", "[aliases]", *_comment(section_meaning("aliases.NAME"))]
    lines += [
        f"{toml_value('', name)} = {_inline(alias)}" for name, alias in settings.aliases.items()
    ]
    if not settings.aliases:
        lines.append('# "claude-haiku-*" = { use = "seated" }')
    lines += _agents(settings, listed)
    for model, chosen in settings.models.items():
        lines += _table(f"models.{toml_value('', model)}", chosen)
    if not settings.models:
        lines += ["", f"# [models.{_EXAMPLE}]", *_comment(section_meaning("models.NAME"))]
        for entry in listed:
            if entry.section == "models.NAME":
                lines += _setting(entry, None)
    return "\n".join(lines[1:]) + "\n"


def render_reload(view: ReloadView) -> None:
    """What changed, and what did not take effect."""
    if not view.changed:
        print("nothing changed")
        return
    for name in view.changed:
        print(f"{name}{' (after `hotseat restart`)' if name in view.restart else ''}")
    if view.reseats:
        print("the seated model is being swapped for itself; contexts are saved first")


def _agents(settings: Settings, listed: list[SettingLine]) -> list[str]:
    lines: list[str] = []
    for product, chosen in settings.http.agents.items():
        lines += _table(f"http.agents.{toml_value('', product)}", chosen)
    if not lines:
        lines = ["", f"# [{_AGENTS}]", *_comment(section_meaning(_AGENTS))]
        for entry in listed:
            if entry.section == _AGENTS:
                lines += _setting(entry, None)
    return lines


def _setting(entry: SettingLine, value: Any) -> list[str]:
    written = toml_value(entry.name, value) if value is not None else ""
    is_set = bool(written) and written != entry.default
    shown = f"{entry.name} = {written or entry.default or '…'}"
    return [*_comment(entry.meaning), shown if is_set else f"# {shown}"]


def _table(where: str, chosen: Struct) -> list[str]:
    """What differs from the defaults, as a table of its own."""
    plain, tables = ["", f"[{where}]"], []
    default = type(chosen)()
    for name in chosen.__struct_fields__:
        value = getattr(chosen, name)
        if value == getattr(default, name):
            continue
        if isinstance(value, Struct):
            tables += _table(f"{where}.{name}", value)
        elif isinstance(value, Mapping):
            pairs = ", ".join(
                f"{toml_value('', key)} = {toml_value('', v)}" for key, v in value.items()
            )
            plain.append(f"{name} = {{ {pairs} }}")
        else:
            plain.append(f"{name} = {toml_value(name, value)}")
    return [*plain, *tables]


def _inline(alias: Struct) -> str:
    values = ((name, getattr(alias, name)) for name in alias.__struct_fields__)
    pairs = ", ".join(f"{name} = {toml_value(name, value)}" for name, value in values if value)
    return f"{{ {pairs} }}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text[:1].upper() + text[1:], _WIDTH)]
