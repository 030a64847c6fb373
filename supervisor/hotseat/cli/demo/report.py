"""What the demonstration shows: a live line while it runs, tables at the end. Measures nothing."""

import contextlib
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from hotseat.cli.demo.story import Story, TurnResult
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.replies import Progress


class DemoScreen:
    """A status line that follows the seat; on a pipe, one line per phase instead."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._last = ""

    @contextlib.contextmanager
    def live(self, text: str) -> Iterator[None]:
        """Shows `text` as being under way."""
        if self._status is None:
            self._console.print(f"  … {text}", highlight=False)
            yield
            return
        self._status.update(text)
        self._status.start()
        try:
            yield
        finally:
            self._status.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False)

    def phase(self, note: Progress) -> None:
        """What happens now: phase, percent, prompt tokens."""
        text = note.phase
        if note.model:
            text += f" {note.model}"
        if note.percent is not None:
            text += f"  {note.percent:.0f} %"
            if note.bytes_total:
                text += f" of {note.bytes_total / MIB:.0f} MiB"
        if note.prompt_tokens and note.phase == "prefill":
            text += f"  {note.prompt_tokens_done or 0}/{note.prompt_tokens} tokens"
        if self._status is not None:
            self._status.update(text)
        elif note.phase != self._last:
            self._console.print(f"    {note.phase} {note.model or ''}", highlight=False)
        self._last = note.phase


def short_names(story: Story) -> dict[str, str]:
    """One letter per model, so that the tables fit a narrow terminal."""
    models = dict.fromkeys(agent.model for agent in story.agents)
    return dict(zip(models, "ABCDEFGH", strict=False))


def swap_table(story: Story) -> Table:
    """Per swap: phases, seconds, bytes, memory before and after; 80 columns are enough."""
    names = short_names(story)
    table = _table("Swaps (seconds; GiB of memory available before and after)")
    table.add_column("swap", no_wrap=True)
    for heading in ("drain", "save", "stop", "free", "load", "warm", "total", "saved", "GiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for swap in story.swaps:
        phases, memory = swap.phases, swap.memory
        seconds = (
            phases.drain_s,
            phases.checkpoint_s,
            phases.stop_s,
            phases.reclaim_s,
            phases.load_s,
            phases.warm_s,
            swap.total_s,
        )
        before, after = memory.available_before / GIB, memory.available_after / GIB
        table.add_row(
            f"{names.get(swap.from_ or '', '-')} → {names.get(swap.to, swap.to)}",
            *(f"{value:.2f}" for value in seconds),
            f"{swap.sessions_checkpointed}: {swap.bytes_written / MIB:.1f} MiB",
            f"{before:.1f} → {after:.1f}",
        )
    return table


def turn_table(story: Story) -> Table:
    """Per turn: restored and computed tokens, time to first token, beside a cold prefill."""
    names = short_names(story)
    table = _table("Turns (tokens; seconds to the first token once seated; cold: from nothing)")
    table.add_column("agent", no_wrap=True)
    for heading in (
        "model",
        "turn",
        "prompt",
        "restored",
        "computed",
        "swap",
        "first",
        "cold",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for turn in story.turns:
        usage = turn.done.usage
        table.add_row(
            turn.agent + (" *" if turn.after_restart else ""),
            names[turn.model],
            str(turn.number),
            str(usage.prompt_tokens),
            str(usage.restored_tokens),
            str(usage.computed_tokens),
            f"{turn.done.timing.swap_s:.2f}",
            f"{turn.first_token_s:.2f}",
            _cold(story, turn),
        )
    return table


def legend(story: Story) -> str:
    """What the letters and marks stand for."""
    letters = ", ".join(f"{letter} = {model}" for model, letter in short_names(story).items())
    measured = ", ".join(
        f"{cold.model}: {cold.tokens} tokens in {cold.ttft_s:.1f} s" for cold in story.cold
    )
    return (
        f"{letters}; * after the daemon was stopped and started again\n"
        f"cold: scaled from one measured prefill per model ({measured})"
    )


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _cold(story: Story, turn: TurnResult) -> str:
    """The measured cold prefill of the model, scaled to this turn's prompt."""
    for cold in story.cold:
        if cold.model == turn.model:
            scaled_s = cold.ttft_s * turn.done.usage.prompt_tokens / cold.tokens
            return f"{scaled_s:.1f}"
    return "-"
