"""Writes results to stdout: JSON, plain text, tables. Sizes are binary, times are seconds."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from hotseat.protocol.limits import GIB, KIB, MIB

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def print_json(value: Any) -> None:
    """Exactly one JSON object; indented for people, compact for pipes."""
    data = msgspec.json.encode(msgspec.to_builtins(value, str_keys=True))
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def show_result(
    result: T, render: Callable[[T], object], *, as_json: bool, plain: object = None
) -> None:
    """What a command came to: one JSON object, or what `render` writes for a person.

    `plain` is what JSON has where that is not the result itself.
    """
    if as_json:
        print_json(result if plain is None else plain)
    else:
        render(result)


def show_line(plain: object, line: str, *, as_json: bool) -> None:
    """One JSON object, or one line for a person."""
    show_result(line, print, as_json=as_json, plain=plain)


def note(text: str) -> None:
    """One line for a person on stderr: progress never mixes with results."""
    print(text, file=sys.stderr, flush=True)


def console(*, stderr: bool = False) -> "Console":
    """A rich console that honours NO_COLOR and does not wrap in pipes."""
    from rich.console import Console

    class PlainConsole(Console):
        """Leaves a reader that went away to `main`, like every other output here."""

        def on_broken_pipe(self) -> None:
            """Rich would exit with 1."""
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return PlainConsole(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, first_shrinks: bool = False
) -> None:
    """A table without lines; headings that end in a space are right-aligned numbers, never cut.

    `first_shrinks`: where the terminal is narrow the first column is cut, the others are not.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        is_number = heading.endswith(" ")
        table.add_column(
            heading.rstrip(),
            justify="right" if is_number else "left",
            min_width=max((len(row[place]) for row in rows), default=0) if is_number else None,
            # Columns that may wrap are the first to be cut; a name has nothing to wrap at.
            no_wrap=not (first_shrinks and place == 0),
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, aligned; empty values are left out."""
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {printable(value)}")


def printable(text: str) -> str:
    """Text without the control characters that would command a terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


def last_line(text: str) -> str:
    """What a program said last."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def size(size_bytes: float | None) -> str:
    """Bytes as GiB, MiB or KiB; empty for unknown."""
    if size_bytes is None:
        return ""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Seconds as the largest two units that matter."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def count(number: float) -> str:
    """A number with thousands separators."""
    return f"{number:,.0f}"
