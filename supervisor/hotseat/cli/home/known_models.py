"""Names of models that somebody means to use later, checked without a daemon."""

import difflib
from collections.abc import Sequence
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.aliases import SEATED, find_alias
from hotseat.supervisor.settings.placed_home import open_home

_NEAR: Final = 3


def check_model_names(names: Sequence[str]) -> None:
    """Raises HotseatError (unknown_model) for a name that is neither registered nor an alias."""
    if not names:
        return
    home, settings = open_home()
    known = [SEATED, *Registry(home, settings, nobody).names(), *settings.aliases]
    for name in names:
        if name not in known and find_alias(name, settings.aliases) is None:
            near = difflib.get_close_matches(name, known, n=_NEAR)
            meant = (
                f"did you mean {' or '.join(near)}? else" if near else "see `hotseat models`, or"
            )
            text = (
                f"no model is registered as {name!r}; {meant} register it first: `hotseat import`"
            )
            raise HotseatError("unknown_model", text, model=name, near=near)
