"""The line that shows what happens meanwhile: live on a terminal, plain lines otherwise."""

import sys
from typing import TYPE_CHECKING, Self

from hotseat.cli.terminal.output import console, note, size
from hotseat.protocol.replies import Progress

if TYPE_CHECKING:
    from rich.status import Status

_BAR = 24
_QUIET_PHASES = frozenset({"decode", "ready"})
_IN_WORDS = {"suspended": "suspended: waiting for the seat"}


class PhaseLine:
    """Context manager; `show` takes progress, `hide` clears the line before output comes."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._phase = ""
        self._is_live = sys.stderr.isatty()
        self._is_in_text = False

    def show(self, progress: Progress) -> None:
        """Shows the phase; on a pipe once per phase."""
        if progress.phase in _QUIET_PHASES:
            self.hide()
        elif self._is_live:
            self._show_live(describe(progress) + bar(progress))
        elif progress.phase != self._phase:
            note(describe(progress))
        self._phase = progress.phase

    def hide(self) -> None:
        """Clears the live line; the next `show` brings it back."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def make_way(self, text: str) -> None:
        """Clears the line for output that is about to be written."""
        self.hide()
        if text:
            self._is_in_text = sys.stdout.isatty() and not text.endswith("\n")

    def _show_live(self, text: str) -> None:
        if self._is_in_text:
            note("")  # clearing the live line later would take the text before it along
            self._is_in_text = False
        self._start_live(text)

    def _start_live(self, text: str) -> None:
        if self._status is None:
            self._status = console(stderr=True).status(text)
            self._status.start()
        self._status.update(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()


def bar(progress: Progress) -> str:
    """How far a phase is, drawn; empty for one that cannot say."""
    if progress.percent is None:
        return ""
    full = round(_BAR * min(max(progress.percent, 0.0), 100.0) / 100.0)
    return f"  {'━' * full}{'╌' * (_BAR - full)} {progress.percent:.0f} %"


def describe(progress: Progress) -> str:
    """One phase in words: name, model, how far, since when."""
    parts = [_IN_WORDS.get(progress.phase, progress.phase)]
    if progress.model:
        parts.append(progress.model)
    if progress.position is not None:
        parts.append(f"position {progress.position}")
    if progress.prompt_tokens:
        parts.append(f"{progress.prompt_tokens_done or 0}/{progress.prompt_tokens} tokens")
    if progress.bytes_total:
        parts.append(f"{size(progress.bytes_done or 0)} of {size(progress.bytes_total)}")
    elif progress.percent is not None:
        parts.append(f"{progress.percent:.0f} %")
    if progress.elapsed_s is not None:
        parts.append(f"{progress.elapsed_s:.1f} s")
    return "  ".join(parts)
