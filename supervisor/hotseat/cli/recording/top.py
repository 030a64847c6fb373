"""`hotseat top`: asks the daemon and draws, until somebody ends it. Knows no layout."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from rich.live import Live

from hotseat.cli.terminal.output import console
from hotseat.cli.views.top import TopState, render_top
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import SAMPLED, TELEMETRY_TOPIC, Sample

if TYPE_CHECKING:
    from hotseat.client.sync import Client, EventStream

_DRAW_S: Final = 0.2
_ASK_S: Final = 1.0
_FIRST_S: Final = 10.0
_QUIT: Final = frozenset({"q", "Q", "\x03", "\x1b"})


def watch_top(client: "Client") -> None:
    """Draws until q; on anything but a terminal one screen, then it ends."""
    out = console()
    state = TopState()
    has_colour = out.color_system is not None and not out.no_color
    # On a terminal with what the daemon remembers: the picture of the last minute is there at once.
    since = 0 if out.is_terminal else None
    with client.events(since, (TELEMETRY_TOPIC,)) as events:
        _ask(client, state)
        _take(events, state, _FIRST_S, until_one=True)
        if not out.is_terminal:
            out.print(render_top(state, 80, blocks=False))
            return
        asked_at = time.monotonic()
        with _keys() as read_key, Live(console=out, screen=True, auto_refresh=False) as live:
            while read_key() not in _QUIT:
                _take(events, state, _DRAW_S)
                if time.monotonic() - asked_at >= _ASK_S:
                    asked_at = time.monotonic()
                    _ask(client, state)
                live.update(render_top(state, out.width, blocks=has_colour), refresh=True)


def _ask(client: "Client", state: TopState) -> None:
    """What samples do not hold; a daemon that restarts leaves the screen as it was."""
    try:
        state.status, state.swaps, state.is_lost = client.status(), client.why(5), False
    except DaemonUnreachable:
        state.is_lost = True


def _take(
    events: "EventStream", state: TopState, patience_s: float, *, until_one: bool = False
) -> None:
    """All samples that come within the time, or until there is one."""
    until = time.monotonic() + patience_s
    while (left := until - time.monotonic()) > 0:
        item = events.next(timeout_s=left)
        if isinstance(item, Event) and item.name == SAMPLED:
            state.add(msgspec.convert(item.facts, Sample))
        if until_one and state.samples:
            return


@contextmanager
def _keys() -> "Iterator[_ReadKey]":
    """Keys as they are pressed, without Return; the terminal is put back afterwards."""
    if not sys.stdin.isatty():
        yield _ReadKey(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _ReadKey(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class _ReadKey:
    """Gives the key that was pressed, or nothing; never waits."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def __call__(self) -> str:
        if self._fd is None or not select.select([self._fd], [], [], 0)[0]:
            return ""
        return os.read(self._fd, 1).decode(errors="replace")
