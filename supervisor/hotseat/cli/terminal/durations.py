"""A length of time as people write it: 90s, 30m, 2h. Parses; knows no command."""

import re
from typing import Final

import click

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WRITTEN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Duration(click.ParamType[float]):
    """Turns a number with a unit into seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a number without a unit could mean anything and is refused."""
        if isinstance(value, float):
            return value
        found = _WRITTEN.fullmatch(str(value))
        seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
        if seconds <= 0.0:
            self.fail(f"{value!r} is no length of time; write 90s, 30m or 2h", param, ctx)
        return seconds
