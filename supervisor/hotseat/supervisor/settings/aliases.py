"""Which model a name stands for: a registered one, `seated`, or an alias. Pure."""

import fnmatch
from collections.abc import Container, Mapping

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.values import AliasSettings

SEATED = "seated"


def find_alias(name: str, aliases: Mapping[str, AliasSettings]) -> AliasSettings | None:
    """The alias of exactly this name, else the first glob in the order of the file."""
    exact = aliases.get(name)
    if exact is not None:
        return exact
    return next((alias for glob, alias in aliases.items() if fnmatch.fnmatchcase(name, glob)), None)


def other_names(
    model: str,
    aliases: Mapping[str, AliasSettings],
    registered: Container[str],
    seated: str | None,
) -> tuple[str, ...]:
    """Names without wildcards that stand for a model now, in the order of the file."""
    found = []
    for name, alias in aliases.items():
        if name in registered or any(mark in name for mark in "*?["):
            continue
        stands_for = alias.use if alias.use != SEATED else seated or alias.otherwise
        if stands_for == model:
            found.append(name)
    return tuple(found)


def resolve_name(
    name: str,
    aliases: Mapping[str, AliasSettings],
    registered: Container[str],
    seated: str | None,
) -> str:
    """A name to look up; one that nothing stands for comes back as it is.

    Raises `HotseatError` (not_seated) where the seated model is meant and there is none.
    """
    alias = None if name in registered else find_alias(name, aliases)
    target = alias.use if alias is not None else name
    if target != SEATED or target in registered:
        return target
    if seated is not None:
        return seated
    if alias is not None and alias.otherwise is not None:
        return alias.otherwise
    raise HotseatError("not_seated", "no model is seated; name one", seated=None)
