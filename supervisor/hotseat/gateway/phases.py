"""What a request waits for, as lines of reasoning for those who asked to see it. Pure.

Clients send reasoning back: no line of these is ever shown to a model.
"""

from typing import Final

from hotseat.protocol.replies import Progress

_MARK: Final = "[hotseat] "
_WORDS: Final = {
    "queued": "waits for its turn",
    "prefill": "reads the prompt",
    "restoring": "reads the context back",
    "decode": "writes",
}


class Phases:
    """Lines of one answer, until its first output. `is_shown` False: none."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._last = ""

    def begin(self) -> None:
        """Output came: what follows are no phases."""
        self._is_shown = False

    def next_line(self, progress: Progress | None) -> str:
        """The line of now if it was not told yet, with its line break; else empty."""
        if not self._is_shown or progress is None:
            return ""
        line = phase_line(progress)
        if line == self._last:
            return ""
        self._last = line
        return line


def phase_line(progress: Progress) -> str:
    """`[hotseat] loading qwen3, 40 %`."""
    words = _WORDS.get(progress.phase, progress.phase)
    if progress.phase not in _WORDS and progress.model is not None:
        words = f"{words} {progress.model}"
    if progress.position is not None:
        words = f"{words}, place {progress.position}"
    percent = percent_of(progress)
    if percent is not None:
        words = f"{words}, {percent:.0f} %"
    return f"{_MARK}{words}\n"


def percent_of(progress: Progress) -> float | None:
    """How far the phase is, of what tells it."""
    done, total = progress.prompt_tokens_done, progress.prompt_tokens
    if progress.percent is None and done is not None and total:
        return 100.0 * done / total
    return progress.percent


def without_phases(reasoning: str) -> str:
    """Reasoning as the model said it."""
    while reasoning.startswith(_MARK):
        reasoning = reasoning.partition("\n")[2]
    return reasoning
