"""Sizes on the command line: 24GiB, 1.5 GiB, or bytes."""

import click

from hotseat.supervisor.settings.reader import parse_size


class _Size(click.ParamType[int]):
    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value)
        found = parse_size(int(text) if text.isdigit() else text)
        if not found:
            self.fail(f"{text!r} is no size; write 24GiB, 512MiB or bytes", param, ctx)
        return found


SIZE = _Size()
