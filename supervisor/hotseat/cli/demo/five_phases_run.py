"""`hotseat demo --five-phases`: a small and a large model on one seat, recorded throughout."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console

from hotseat.cli.demo.five_phases import (
    PhaseFigures,
    Role,
    SwapSummary,
    agents_of,
    phase_at,
    phase_figures,
    summaries,
    turn_order,
)
from hotseat.cli.demo.five_phases_page import phase_table, sections, summary_lines
from hotseat.cli.demo.limited import within
from hotseat.cli.demo.stage import Stage
from hotseat.cli.demo.story import Story
from hotseat.cli.home.model_facts import Library
from hotseat.cli.recording.file import json_line, read_recording
from hotseat.cli.recording.report_page import write_report
from hotseat.cli.recording.report_svg import MARK
from hotseat.cli.selftest.measures.machine import describe_machine
from hotseat.cli.terminal.output import size
from hotseat.client import Client
from hotseat.protocol.discovery import ENDPOINT_VARIABLE
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event, SwapReport
from hotseat.protocol.selftest import Measured
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, read_holder

BASELINE_S: Final = 3.0
"""What the recording shows of an empty seat."""
FURTHER_SWAPS: Final = 6
"""There and back after the work, so that a median says something."""
RECORDER_END_S: Final = 10.0
Source = tuple[str, str, str]


class Result(Struct, frozen=True, kw_only=True):
    """The file that can be sent in: every number, no prompts and no paths."""

    five_phases: int
    machine: Measured
    limit_bytes: int | None
    weights_bytes: dict[str, int]
    phases: list[PhaseFigures]
    swaps: list[SwapSummary]
    reports: list[SwapReport]
    broken: list[str]


def run_five_phases(
    *,
    models: tuple[str, str] | None,
    cache: Path,
    out: Path,
    limit_bytes: int | None,
    as_json: bool,
) -> int:
    """Plays, draws `out` with the result and the recording beside it; 0 if all promises held.

    `models`: the small one and the large one, registered names or folders; None: the samples.
    `limit_bytes`: of memory, for the daemon and all that it starts; None: the machine's.
    """
    console = Console(stderr=as_json)
    sources = None if models is None else [_own_model(asked) for asked in models]
    with within(limit_bytes) as begin:
        play = _played(sources, cache, out, console, begin)
    result = play.finish(limit_bytes)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(result)) + "\n")
    else:
        if limit_bytes is not None:
            console.print(f"daemon and workers within {size(limit_bytes)}", highlight=False)
        console.print(phase_table(result.phases))
        for line in summary_lines(result.swaps):
            console.print(line, highlight=False)
    for line in result.broken:
        console.print(f"[red]promise broken:[/] {line}")
    if not result.broken:
        turns = len(play.story.turns)
        console.print(f"[green]every promise held[/]: {turns} turns, {play.stage.passed}")
    files = ", ".join(str(out.with_suffix(ending)) for ending in (".html", ".json", ".jsonl"))
    console.print(f"page, figures, recording: {files}", highlight=False)
    return 1 if result.broken else 0


def _played(
    sources: list[Source] | None, cache: Path, out: Path, console: Console, begin: Sequence[str]
) -> "FivePhases":
    """The work is done and the daemon gone; its home too."""
    base = Path(tempfile.mkdtemp(prefix="hsdemo"))
    play = FivePhases(Stage(base, console, within=begin), out)
    try:
        play.prepare(sources or play.stage.fetch_samples(cache, with_gemma=True))
        play.play()
    finally:
        play.stage.stop()
        shutil.rmtree(base, ignore_errors=True)
    return play


def _own_model(asked: str) -> Source:
    """A registered model or a folder. Raises `HotseatError`: seat_taken, unknown_model."""
    if (holder := read_holder(DEFAULT_SEAT_LOCK)) is not None:
        raise HotseatError(
            "seat_taken",
            f"process {holder.pid} holds this machine's seat, and two large models at once is what"
            " hotseat prevents; hotseat stop ends it",
        )
    if Path(asked).is_dir():
        return (Path(asked).resolve().name, asked, "")
    library = Library()
    name = library.find(asked)
    return (name, library.show(name).path, "")


class FivePhases:
    """One run: what it recorded lies beside `out`."""

    def __init__(self, stage: Stage, out: Path) -> None:
        self.stage = stage
        self._out = out
        self._recording = out.with_suffix(".jsonl")
        self._marks: list[Event] = []
        self._swaps: list[tuple[float, SwapReport]] = []
        self._ended_at = 0.0
        self._models: dict[Role, str] = {}
        self._weights: dict[str, int] = {}
        self._machine = describe_machine(out.resolve().parent)
        self.story = Story(())

    def prepare(self, sources: list[Source]) -> None:
        """Puts both models into the demo's home; the first is the small one."""
        names = [name for name, _, _ in sources]
        if len(set(names)) != len(names):
            raise HotseatError("invalid_request", "the small and the large model are the same")
        for source in sources:
            self.stage.add_model(*source)
        self._models = {"small": names[0], "large": names[1]}
        self.stage.screen.say(f"models ready after {self.stage.passed}")

    def play(self) -> None:
        """The work from the empty seat to the last turn, then further swaps."""
        with self._recorded(self.stage.start()) as client:
            views = {view.name: view for view in client.models() if view.name in self._names}
            self._weights = {name: view.weights_bytes for name, view in views.items()}
            raw = {n for n, v in views.items() if v.template is None or v.template.mode == "raw"}
            agents = agents_of(self._models, frozenset(raw))
            self.story = Story(tuple(agents.values()))
            self._mark(0)
            time.sleep(BASELINE_S)
            for percent, name in turn_order():
                if phase_at(percent).percent == percent:
                    self._mark(percent)
                self.stage.turn(self.story, client, agents[name])
            self._ended_at = time.time()
            self.stage.screen.say("[bold cyan]100 %: done[/]")
            for number in range(FURTHER_SWAPS):
                target = self._models["large" if number % 2 == 0 else "small"]
                with self.stage.screen.live(f"swap {number + 1} of {FURTHER_SWAPS} …"):
                    client.swap(target, on_progress=self.stage.screen.phase)

    @property
    def _names(self) -> set[str]:
        return set(self._models.values())

    def _mark(self, percent: int) -> None:
        phase = phase_at(percent)
        self.stage.screen.say(f"[bold cyan]{percent} %: {phase.title}[/]")
        facts = {"percent": percent, "title": phase.title}
        self._marks.append(Event(seq=0, at=time.time(), name=MARK, facts=facts))

    @contextlib.contextmanager
    def _recorded(self, client: Client) -> Iterator[Client]:
        """`hotseat record` runs beside it; swaps are taken from the daemon's events."""
        record = ("-m", "hotseat.cli.main", "record", "--out", str(self._recording))
        environment = {**os.environ, ENDPOINT_VARIABLE: self.stage.endpoint}
        with (
            client.events(topics=("swap.finished",)) as events,
            subprocess.Popen(
                [sys.executable, *record], env=environment, stderr=subprocess.DEVNULL
            ) as recorder,
        ):
            try:
                yield client
            finally:
                recorder.send_signal(signal.SIGINT)
                recorder.wait(RECORDER_END_S)
            while isinstance(item := events.next(timeout_s=0.5), Event):
                self._swaps.append((item.at, msgspec.convert(item.facts, SwapReport)))

    def finish(self, limit_bytes: int | None) -> Result:
        """Writes page and result file. Raises `HotseatError` where they cannot be written."""
        with self._recording.open("ab") as target:
            target.writelines(json_line(mark) for mark in self._marks)
        recording = read_recording(self._recording)
        samples = [sample for sample in recording.samples if sample.at < self._ended_at]
        phases = phase_figures(self._marks, samples, self.story.turns, self._swaps)
        reports = [report for _, report in self._swaps]
        self.story.swaps += [report for at, report in self._swaps if at < self._ended_at]
        result = Result(
            five_phases=1,
            machine=self._machine,
            limit_bytes=limit_bytes,
            weights_bytes=self._weights,
            phases=phases,
            swaps=summaries(reports),
            reports=reports,
            broken=self.story.broken_promises(),
        )
        write_report(recording, self._out, sections(result.phases, self.story, result.swaps))
        self._out.with_suffix(".json").write_bytes(
            msgspec.json.format(msgspec.json.encode(result), indent=1)
        )
        return result
