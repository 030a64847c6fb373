"""One run of one arm: three agents on three models take turns under one byte limit.

Each agent's context grows by what is new and by what the agent before said. Must not know what is
compared.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.homes import ids
from benchmarks.proof.arms import WAYS, FailedError, Subject, forget, started
from benchmarks.proof.ground import Ground, limit_bytes
from benchmarks.proof.groups import Counters, Group
from benchmarks.proof.results import COMPLETED, Beside, Planned, Run, Sums, TurnFigures
from benchmarks.random_models import weights_bytes

FIRST_TOKENS, NEW_TOKENS, MADE_TOKENS = 192, 40, 16
"""Of a prompt: what every agent begins with, what each turn adds; and of an answer."""
CALM_S = 3.0
"""The bystander alone, before an arm begins."""
LOOK_S = 0.2
P99 = 0.99


class Script(Struct, frozen=True, kw_only=True):
    """What every arm is asked. `limit_s`: a run that is not done by then has failed."""

    folders: tuple[Path, ...]
    size_mb: int
    rounds: int
    limit_s: float
    first_tokens: int = FIRST_TOKENS
    made_tokens: int = MADE_TOKENS
    calm_s: float = CALM_S


class Bystander:
    """`bystander.py` inside the group."""

    def __init__(self, group: Group) -> None:
        command = group.inside([sys.executable, "-m", "benchmarks.proof.bystander"])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._seen: list[tuple[float, float]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def figures(self, began: float) -> Beside:
        """What came since `began`, and before it."""
        rows = list(self._seen)
        alone = [took for due, took in rows if due < began]
        beside = [took for due, took in rows if due >= began]
        return Beside(
            count=len(beside),
            p50=quantile(beside, 0.5),
            p99=quantile(beside, P99),
            most=max(beside, default=0.0),
            alone_p50=quantile(alone, 0.5),
            alone_p99=quantile(alone, P99),
            was_killed=self._process.poll() is not None,
        )

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # killed in the middle of a line
            for line in self._process.stdout:
                due, took = json.loads(line)
                self._seen.append((due, took))


class Peak(threading.Thread):
    """The most that the group used at any look."""

    def __init__(self, group: Group) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._group = group
        self._end = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        while not self._end.wait(LOOK_S):
            self.most = max(self.most, self._group.counters().usage)

    def stop(self) -> int:
        """The figure."""
        self._end.set()
        self.join()
        return self.most


def run(ground: Ground, script: Script, planned: Planned) -> Run:
    """Makes it, and leaves an empty group behind."""
    group, way = ground.group, WAYS[planned.arm]
    largest = max(map(weights_bytes, script.folders))
    limit = None if planned.ratio is None else limit_bytes(planned.ratio, largest)
    swap_bytes = ground.swap_bytes if way.has_swap and limit is not None else 0
    for folder in script.folders:
        forget(folder)
    group.limit(limit, swap_bytes)
    bystander, peak, before = Bystander(group), Peak(group), group.counters()
    time.sleep(script.calm_s)
    peak.start()
    began = time.monotonic()
    course = _Course(group, script)
    subject: Subject | None = None
    outcome = COMPLETED
    try:
        subject = started(way.kind, group, script.folders)
        ready = time.monotonic()
        course.go(subject, ready + script.limit_s)
    except FailedError as error:
        ready = time.monotonic()
        outcome = str(error)[:300]
    ended, after = time.monotonic(), group.counters()
    made = Run(
        arm=planned.arm,
        ratio=planned.ratio,
        number=planned.number,
        size_mb=script.size_mb,
        rounds=script.rounds,
        outcome=outcome,
        limit_bytes=limit,
        swap_bytes=swap_bytes,
        largest_bytes=largest,
        turns=tuple(course.turns),
        wall_s=ended - began,
        start_s=ready - began,
        sums=difference(before, after),
        peak_bytes=peak.stop(),
        stored_bytes=0 if subject is None else subject.written_bytes(),
        beside=bystander.figures(began),
    )
    bystander.close()
    if subject is not None and made.is_completed:
        subject.close()
    group.empty()
    return made


class _Course:
    """The turns of one run."""

    def __init__(self, group: Group, script: Script) -> None:
        self.turns: list[TurnFigures] = []
        self._group = group
        self._script = script

    def go(self, subject: Subject, until: float) -> None:
        """All rounds. Raises `FailedError`; `turns` has what was answered before."""
        names = [folder.name for folder in self._script.folders]
        held = {name: ids(self._script.first_tokens, seed) for seed, name in enumerate(names)}
        said: tuple[int, ...] = ()
        for number in range(self._script.rounds):
            for place, name in enumerate(names):
                held[name] += [*ids(NEW_TOKENS, 100 + 10 * number + place), *said]
                said = self._turn(subject, number, name, held[name], until)
                held[name] += said

    def _turn(
        self, subject: Subject, number: int, name: str, prompt: Sequence[int], until: float
    ) -> tuple[int, ...]:
        before = self._group.counters()
        answer = subject.turn(name, prompt, self._script.made_tokens, until)
        after = self._group.counters()
        first, last = answer.arrived_s[0], answer.arrived_s[-1]
        later = sum(at > first for at in answer.arrived_s)  # tokens of the first frame come at once
        self.turns.append(
            TurnFigures(
                round=number,
                model=name,
                prompt=len(prompt),
                restored=answer.restored,
                first_s=first,
                rate=later / (last - first) if last > first else 0.0,
                swap_in=after.swap_in - before.swap_in,
                major_faults=after.major_faults - before.major_faults,
                tokens=answer.tokens,
            )
        )
        return answer.tokens


def difference(before: Counters, after: Counters) -> Sums:
    """What was added between two looks."""
    names = Sums.__struct_fields__
    added = {name: getattr(after, name) - getattr(before, name) for name in names}
    return msgspec.convert(added, Sums)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so many are not above; 0 of none."""
    ordered = sorted(values)
    if share == 0.5 and ordered:
        return statistics.median(ordered)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
