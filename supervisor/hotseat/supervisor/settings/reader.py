"""Reads `config.toml` into `Settings`; every mistake names file, line, field, value and remedy."""

import difflib
import os
import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, is_model_name
from hotseat.protocol.limits import BLOCK_TOKENS, GIB, KIB, MIB
from hotseat.supervisor.machine.volumes import why_not_writable
from hotseat.supervisor.settings.values import PATHS, AliasSettings, ModelSettings, Settings

_NAMES: Final = frozenset({"at_start", "use", "otherwise"})
"""Settings that name a model."""
SEAT_LOCK_VARIABLE: Final = "HOTSEAT_SEAT_LOCK"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)")
_UNITS: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}
_TABLE: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\-\"' ]+?)\s*=")
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
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            line = int(found[1]) if found else len(self._text.splitlines())
            raise HotseatError(
                "invalid_config",
                f"{self._path}:{line}: not valid TOML ({error}); correct that line",
                file=str(self._path),
                line=line,
            ) from error
        sections: dict[str, Any] = {}
        for name, kind in get_type_hints(Settings).items():
            if name in plain and name not in {"models", "aliases"}:
                sections[name] = self._section((name,), plain[name], kind)
        if "aliases" in plain:
            sections["aliases"] = self._aliases(plain["aliases"])
        if "models" in plain:
            sections["models"] = self._models(plain["models"])
        self._check_keys((), plain, Settings)
        return Settings(**sections)

    def _aliases(self, plain: object) -> dict[str, AliasSettings]:
        remedy = 'write "NAME-*" = { use = "MODEL" } under [aliases]'
        if not isinstance(plain, dict):
            raise self._fault(("aliases",), plain, "is no table", remedy)
        aliases: dict[str, AliasSettings] = {}
        for name, value in plain.items():
            where = ("aliases", name)
            if isinstance(value, str):
                aliases[name] = AliasSettings(use=self._name((*where, "use"), value))
                continue
            if not isinstance(value, dict) or "use" not in value:
                raise self._fault(where, value, "says no model to use", remedy)
            aliases[name] = self._section(where, value, AliasSettings)
        for name, alias in aliases.items():
            if alias.use in aliases and alias.use != name:
                text = f"is an alias of {alias.use!r}, which is an alias itself"
                raise self._fault(("aliases", name), alias.use, text, "name the model")
        return aliases

    def _models(self, plain: object) -> dict[ModelName, ModelSettings]:
        if not isinstance(plain, dict):
            raise self._fault(("models",), plain, "is no table", "write [models.NAME]")
        models = {}
        for name, values in plain.items():
            if not is_model_name(name):
                raise self._fault(
                    ("models", name), name, "is no model name", "see `hotseat models`"
                )
            models[ModelName(name)] = self._section(("models", name), values, ModelSettings)
        return models

    def _section(self, where: tuple[str, ...], plain: object, kind: type[S]) -> S:
        if not isinstance(plain, dict):
            raise self._fault(where, plain, "is no table", f"write [{'.'.join(where)}]")
        self._check_keys(where, plain, kind)
        hints = get_type_hints(kind)
        return kind(
            **{
                name: self._value((*where, name), value, hints[name])
                for name, value in plain.items()
            }
        )

    def _check_keys(
        self, where: tuple[str, ...], plain: Mapping[str, Any], kind: type[Struct]
    ) -> None:
        for name in plain:
            if name in kind.__struct_fields__:
                continue
            near = difflib.get_close_matches(name, kind.__struct_fields__, n=3)
            remedy = (
                f"did you mean {' or '.join(near)}?"
                if near
                else (f"known here: {', '.join(kind.__struct_fields__)}")
            )
            raise self._fault((*where, name), plain[name], "is not a setting", remedy, near=near)

    def _value(self, where: tuple[str, ...], value: object, hint: Any) -> object:
        if get_origin(hint) is Literal:
            choices = [str(choice) for choice in get_args(hint)]
            if value not in choices:
                raise self._fault(where, value, "is no choice", f"write one of {choices}")
            return value
        if where[-1] in _NAMES:
            return self._name(where, value)
        if isinstance(hint, type) and issubclass(hint, Struct):
            return self._section(where, value, hint)
        if get_origin(hint) is Mapping:
            return self._arguments(where, value)
        return self._scalar(where, value, _plain_type(hint))

    def _scalar(self, where: tuple[str, ...], value: object, kind: Any) -> object:
        name = where[-1]
        if name.endswith("_bytes"):
            size = parse_size(value)
            if size is None:
                raise self._fault(where, value, "is no size", 'write bytes, or "8GiB"')
            return size
        if name in PATHS:
            return self._path_of(where, value)
        if kind is bool:
            if not isinstance(value, bool):
                raise self._fault(where, value, "is neither true nor false", "write one of them")
            return value
        if kind is float:
            return (
                self._seconds(where, value) if name.endswith("_s") else self._number(where, value)
            )
        return self._count(where, value)

    def _seconds(self, where: tuple[str, ...], value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 0 < value < float("inf")):  # type: ignore[operator]
            raise self._fault(where, value, "is no time", "write seconds above 0")
        return float(value)  # type: ignore[arg-type]

    def _name(self, where: tuple[str, ...], value: object) -> str:
        if not isinstance(value, str) or not is_model_name(value):
            raise self._fault(where, value, "is no model name", "see `hotseat models`")
        return value

    def _number(self, where: tuple[str, ...], value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        lowest = -2.0 if where[-1] in {"presence_penalty", "frequency_penalty"} else 0.0
        highest = {"top_p": 1.0, "min_p": 1.0}.get(where[-1], 2.0 if lowest else 10.0)
        if not (is_number and lowest <= value <= highest):  # type: ignore[operator]
            remedy = f"write a number from {lowest:g} to {highest:g}"
            raise self._fault(where, value, "is out of range", remedy)
        return float(value)  # type: ignore[arg-type]

    def _arguments(self, where: tuple[str, ...], value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._fault(where, value, "is no table", f"write [{'.'.join(where)}]")
        for name, argument in value.items():
            if not isinstance(argument, bool | int | float | str):
                raise self._fault((*where, name), argument, "is no plain value", "write one")
        return dict(value)

    def _path_of(self, where: tuple[str, ...], value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self._fault(where, value, "is no path", 'write it in quotes, "/..."')
        path = Path(value).expanduser()
        path = path if path.is_absolute() else self._path.parent / path
        if where[0] == "folders":
            self._check_folder(where, path)
        return str(path)

    def _check_folder(self, where: tuple[str, ...], path: Path) -> None:
        """Models may be away for a while: then they are unavailable. The rest has to be there."""
        reason, remedy = why_not_writable(path)
        is_away = where[-1] == "models" and not path.exists()
        if reason and not is_away:
            raise self._fault(where, str(path), reason, remedy)

    def _count(self, where: tuple[str, ...], value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._fault(where, value, "is no whole number above 0", "write one, no quotes")
        if where[-1] == "prefill_chunk" and value % BLOCK_TOKENS and BLOCK_TOKENS % value:
            remedy = f"write a divisor or a multiple of {BLOCK_TOKENS}"
            raise self._fault(where, value, "does not go with blocks", remedy)
        return value

    def _fault(
        self, where: tuple[str, ...], value: object, what: str, remedy: str, **facts: Any
    ) -> HotseatError:
        line = self._line_of(where)
        field = ".".join(where)
        shown = textwrap.shorten(repr(value), _SHOWN, placeholder="...")
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
        for number, line in enumerate(self._text.splitlines(), start=1):
            is_table = _TABLE.match(line)
            key = _KEY.match(line)
            if is_table:
                table = _split(is_table[1])
                here = table
            elif key:
                here = (*table, *_split(key[1]))
            else:
                continue
            if here == where[: len(here)] and len(here) > best_depth:
                best, best_depth = number, len(here)
        return best


def _split(dotted: str) -> tuple[str, ...]:
    """Parts of a dotted TOML key; dots inside quotes stay."""
    return tuple(part.strip("\"'") for part in re.findall(r'"[^"]*"|\'[^\']*\'|[^."\'\s]+', dotted))


def _plain_type(hint: Any) -> Any:
    """`X` of `X | None`."""
    if get_origin(hint) is UnionType:
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint
