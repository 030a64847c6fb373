"""Reads `config.toml` into `Settings`; every mistake names file, line, field, value and remedy."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin

from msgspec import Struct, ValidationError, convert, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, is_model_name
from hotseat.protocol.limits import GIB, KIB, MIB
from hotseat.supervisor.machine.volumes import why_not_writable
from hotseat.supervisor.settings.kinds import (
    Bytes,
    ChunkTokens,
    FilePath,
    NameOfModel,
    explain_refusal,
    goes_with_blocks,
    plain_kind,
    remedy_for,
)
from hotseat.supervisor.settings.values import AliasSettings, Settings

SEAT_LOCK_VARIABLE: Final = "HOTSEAT_SEAT_LOCK"
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(B|KiB|MiB|GiB|TiB)")
_UNITS: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}
_PART: Final = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_\-]+)"""
_DOTTED: Final = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE: Final = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]")
_KEY: Final = re.compile(rf"\s*({_DOTTED})\s*=")
_SHOWN: Final = 80
S = TypeVar("S", bound=Struct)


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of that file, all defaults if there is none; the environment wins.

    Raises `HotseatError` (invalid_config).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        settings = Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise HotseatError(
            "invalid_config", f"{path} cannot be read ({error})", file=str(path)
        ) from error
    else:
        settings = _Reader(path, text).read()
    lock_path = environ.get(SEAT_LOCK_VARIABLE)
    if lock_path:
        return structs.replace(settings, seat=structs.replace(settings.seat, lock_path=lock_path))
    return settings


def parse_size(value: object) -> int | None:
    """Bytes of `1024`, `"8GiB"` or `"1.5 GiB"`; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    if not isinstance(value, str):
        return None
    found = _SIZE.fullmatch(value.strip())
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])


class _Reader:
    """One pass over one file."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def read(self) -> Settings:
        try:
            plain = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:  # too many digits are no TOMLDecodeError
            found = re.search(r"at line (\d+)", str(error))
            line = int(found[1]) if found else len(self._text.splitlines())
            raise HotseatError(
                "invalid_config",
                f"{self._path}:{line}: not valid TOML ({error}); correct that line",
                file=str(self._path),
                line=line,
            ) from error
        settings = self._section((), plain, Settings)
        for name, alias in settings.aliases.items():
            if alias.use in settings.aliases and alias.use != name:
                what = f"is an alias of {alias.use!r}, which is an alias itself"
                raise self._fault(("aliases", name), alias.use, what, "name the model")
        return settings

    def _section(self, where: tuple[str, ...], plain: object, kind: type[S]) -> S:
        fields = {field.name: field.type for field in structs.fields(kind)}
        table = self._table(where, plain)
        for name in table:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=3)
                known = f"known here: {', '.join(fields)}"
                remedy = f"did you mean {' or '.join(near)}?" if near else known
                raise self._fault(
                    (*where, name), table[name], "is not a setting", remedy, near=near
                )
        return kind(
            **{
                name: self._value((*where, name), value, plain_kind(fields[name]))
                for name, value in table.items()
            }
        )

    def _value(self, where: tuple[str, ...], value: object, kind: Any) -> object:
        if get_origin(kind) is Mapping:
            name_kind, value_kind = get_args(kind)
            table = self._table(where, value)
            for name in table:
                if name_kind is ModelName:
                    self._check_name((*where, name), name)
            return {name: self._value((*where, name), table[name], value_kind) for name in table}
        if kind is AliasSettings:
            return self._section(where, self._spell_out(where, value), AliasSettings)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._section(where, value, kind)
        return self._plain(where, value, kind)

    def _table(self, where: tuple[str, ...], value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            name = ".NAME" if where == ("models",) else ""
            raise self._fault(where, value, "is no table", f"write [{'.'.join(where)}{name}]")
        return value

    def _spell_out(self, where: tuple[str, ...], value: object) -> object:
        """An alias may be written as the name of its model alone."""
        if isinstance(value, str):
            return {"use": value}
        if not isinstance(value, dict) or "use" not in value:
            remedy = 'write "NAME-*" = { use = "MODEL" } under [aliases]'
            raise self._fault(where, value, "says no model to use", remedy)
        return value

    def _plain(self, where: tuple[str, ...], given: object, kind: Any) -> object:
        is_spelled = kind == Bytes and isinstance(given, str)
        try:
            value = convert(parse_size(given) if is_spelled else given, kind)
        except ValidationError as error:
            raise self._fault(
                where, given, explain_refusal(kind, str(error)), remedy_for(kind)
            ) from error
        if kind == ChunkTokens and not goes_with_blocks(value):
            raise self._fault(where, given, "does not go with blocks", remedy_for(kind))
        if kind == NameOfModel:
            self._check_name(where, value)
        return self._path_of(where, value) if kind == FilePath else value

    def _check_name(self, where: tuple[str, ...], name: str) -> None:
        if not is_model_name(name):
            raise self._fault(where, name, "is no model name", remedy_for(NameOfModel))

    def _path_of(self, where: tuple[str, ...], value: str) -> str:
        try:
            path = self._path.parent / Path(value).expanduser()
            # Models may be away for a while: then they are unavailable. The rest has to be there.
            is_away = where[-1] == "models" and not path.exists()
            if where[0] == "folders" and not is_away:
                reason, remedy = why_not_writable(path)
                if reason:
                    raise self._fault(where, str(path), reason, remedy)
        except (OSError, RuntimeError) as error:  # too long a name; `~` of an unknown user
            raise self._fault(where, value, f"cannot be used ({error})", "name another") from error
        return str(path)

    def _fault(
        self, where: tuple[str, ...], value: object, what: str, remedy: str, **facts: Any
    ) -> HotseatError:
        line = self._line_of(where)
        field = ".".join(where)
        shown = _shown(value)
        return HotseatError(
            "invalid_config",
            f"{self._path}:{line}: {field} = {shown} {what}; {remedy}",
            file=str(self._path),
            line=line,
            field=field,
            value=shown,
            remedy=remedy,
            **facts,
        )

    def _line_of(self, where: tuple[str, ...]) -> int:
        """Line of the field, else of the closest table around it; tomllib does not keep lines."""
        table: tuple[str, ...] = ()
        best, best_depth = 1, 0
        for number, line in enumerate(self._text.split("\n"), start=1):
            is_table = _TABLE.match(line)
            key = _KEY.match(line)
            if is_table:
                table = _split(is_table[1])
                here = table
            elif key:
                here = (*table, *_split(key[1]))
            else:
                continue
            depth = min(len(here), len(where))
            if here[:depth] == where[:depth] and depth > best_depth:
                best, best_depth = number, depth
        return best


def _split(dotted: str) -> tuple[str, ...]:
    """Parts of a dotted TOML key; dots inside quotes stay."""
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than some thousand digits
        return "a number too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
