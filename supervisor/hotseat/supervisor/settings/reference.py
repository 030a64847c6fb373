"""Every setting in words, from the types: for `hotseat config show` and docs/configuration.md.

Knows the types, no file. What a field means is the string below it in the source.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from hotseat.protocol.limits import GIB, KIB, MIB
from hotseat.supervisor.settings.changes import NEEDS_RESTART, NEEDS_SWAP
from hotseat.supervisor.settings.http_values import AgentSettings
from hotseat.supervisor.settings.kinds import in_words, plain_kind
from hotseat.supervisor.settings.values import (
    AliasSettings,
    ModelSettings,
    SamplingDefaults,
    Settings,
)

_UNITS: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


class SettingLine(Struct, frozen=True, kw_only=True):
    """One setting. `default` is TOML text, empty where nothing stands for "unset"."""

    section: str
    name: str
    kind: str
    default: str
    meaning: str
    taken: str
    """When a change is taken."""


def entries() -> Iterator[SettingLine]:
    """All settings in the order of the file."""
    for section, kind in _sections():
        for field in fields(kind):
            if not isinstance(field.default, Struct) and field.name != "agents":
                yield SettingLine(
                    section=section,
                    name=field.name,
                    kind=in_words(plain_kind(field.type)),
                    default=_default(field),
                    meaning=meanings(kind).get(field.name, ""),
                    taken=_taken(section, field.name),
                )


def section_meaning(section: str) -> str:
    """The first paragraph about a section, without its own name."""
    kind = dict(_sections())[section]
    return _plain((inspect.getdoc(kind) or "").partition(": ")[2])


@cache
def meanings(kind: type[Struct]) -> Mapping[str, str]:
    """The string below each field in the source of its class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - it is the source of a class
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            found[field.target.id] = _plain(str(below.value.value))  # type: ignore[attr-defined]
    return found


def toml_value(name: str, value: Any) -> str:
    """A value as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and name.endswith("_bytes"):
        for unit, word in _UNITS:
            if value and value % unit == 0:
                return f'"{value // unit} {word}"'
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(name, one) for one in value)}]" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sections() -> list[tuple[str, type[Struct]]]:
    found: list[tuple[str, type[Struct]]] = []
    for field in fields(Settings):
        if field.name == "aliases":
            found.append(("aliases.NAME", AliasSettings))
        elif field.name == "models":
            found.append(("models.NAME", ModelSettings))
            found.append(("models.NAME.sampling", SamplingDefaults))
        else:
            found.append((field.name, field.type))
        if field.name == "http":
            found.append(("http.agents.PRODUCT", AgentSettings))
    return found


def _default(field: FieldInfo) -> str:
    is_plain = isinstance(field.default, bool | int | float | str)
    return toml_value(field.name, field.default) if is_plain else ""


def _taken(section: str, name: str) -> str:
    if f"{section}.{name}" in NEEDS_RESTART:
        return "restart"
    if section == "models.NAME" and name in NEEDS_SWAP:
        return "swap"
    return "reload"


def _plain(text: str) -> str:
    return " ".join(text.split())
