"""Runs the model library in its own process and reads its JSON lines. Never imports mlx."""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Final, Self

from msgspec import Struct

from hotseat.cli.terminal.failures import EXIT_INTERRUPTED, MissingExtraError
from hotseat.cli.terminal.output import console, last_line, note
from hotseat.protocol.conversions import ConversionPlan
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.process_lines import LIBRARY_LINE, Inspected, LibraryLine
from hotseat.supervisor.machine.processor import refuse_intel_mac
from hotseat.supervisor.settings.placed_home import open_home

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

OnProgress = Callable[[str, float], None]
_STAYS: Final = ("replacing ", "converting ", "taking ")
"""Steps that say something a person wants to read again."""
_NEEDED: Final = ("mlx", "mlx_lm", "gguf")


class Making(Struct, frozen=True, kw_only=True):
    """How a file is to be converted; without `bits`, as near to it as MLX allows."""

    bits: int | None = None
    group_size: int | None = None
    keep: bool = False

    @classmethod
    def of(cls, bits: str | None, group_size: str | None, *, keep: bool) -> Self:
        """From what was typed."""
        return cls(
            bits=int(bits) if bits else None,
            group_size=int(group_size) if group_size else None,
            keep=keep,
        )

    def arguments(self) -> list[str]:
        """For the library's command line."""
        widths = {"--bits": self.bits, "--group-size": self.group_size}
        given = [f"{option}={value}" for option, value in widths.items() if value is not None]
        return [*given, *(["--keep"] if self.keep else [])]


AS_STORED: Final = Making()


def import_model(
    source: str,
    name: str | None,
    licence: str | None,
    context: int | None,
    on_progress: OnProgress,
    adapter: str | None = None,
    making: Making = AS_STORED,
) -> ModelRecord:
    """Registers a model in the home folder; works with and without a running daemon."""
    arguments = [*_importing(source), *making.arguments()]
    options = {"--name": name, "--licence": licence, "--context": context, "--adapter": adapter}
    for option, value in options.items():
        if value is not None:
            arguments.append(f"{option}={value}")
    last = run_library(arguments, on_progress)
    if last.record is None:
        raise HotseatError("internal", "the library ended without a record")
    return last.record


def plan_import(source: str, making: Making, on_progress: OnProgress) -> ConversionPlan:
    """What importing a file would write; nothing is."""
    arguments = [*_importing(source), *making.arguments(), "--dry-run"]
    last = run_library(arguments, on_progress)
    if last.conversion is None:
        raise HotseatError("internal", "the library ended without a plan")
    return last.conversion


def _importing(source: str) -> list[str]:
    home, _settings = open_home()
    return ["import", source, "--home", str(home.root), "--models", str(home.models_dir)]


def inspect_folder(folder: str, on_progress: OnProgress) -> Inspected:
    """Reads configuration and weight headers of a folder; nothing is registered."""
    last = run_library(["inspect", folder], on_progress)
    if last.inspected is None:
        raise HotseatError("internal", "the library ended without a finding")
    return last.inspected


def run_library(arguments: Sequence[str], on_progress: OnProgress) -> LibraryLine:
    """Runs one command of the library; returns its last line or raises its error."""
    refuse_intel_mac()
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"importing models needs {', '.join(missing)}: pip install 'hotseat[worker]'"
        )
    command = [sys.executable, "-m", "hotseat.library", *arguments]
    with (
        tempfile.TemporaryFile() as chatter,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=chatter) as child,
    ):
        assert child.stdout is not None  # noqa: S101 - asked for above
        try:
            last = read_lines(child.stdout, on_progress)
            code = child.wait()
        except KeyboardInterrupt:
            child.wait()  # it got the interrupt too and cleans up
            raise
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if last is None:
            reason = f"the library ended with code {code} and no answer"
            chatter.seek(0)
            said = last_line(chatter.read().decode(errors="replace"))
            raise HotseatError("internal", f"{reason}: {said}")
    if last.error is not None:
        error = HotseatError(last.error.code, last.error.message)
        error.facts = last.error.facts
        raise error
    return last


def read_lines(stream: IO[bytes], on_progress: OnProgress) -> LibraryLine | None:
    """Tells of each step; returns the line that ends the work, if there is one."""
    last = None
    for data in stream:
        line = LIBRARY_LINE.decode(data)
        if line.progress is not None:
            on_progress(line.progress.phase, line.progress.percent)
        else:
            last = line
    return last


class ImportBar:
    """Progress on stderr: a bar on a terminal, one line per phase otherwise."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""

    def show(self, phase: str, percent: float) -> None:
        """An `OnProgress`."""
        if self._bar is None or self._task is None:
            if phase != self._phase:
                note(phase)
        else:
            if phase.startswith(_STAYS):
                self._bar.console.print(phase)  # when the bar goes
            self._bar.update(self._task, description=phase, completed=percent)
        self._phase = phase

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import Progress

            self._bar = Progress(console=console(stderr=True), transient=True)
            self._task = self._bar.add_task("starting", total=100)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
