"""Runs entries one by one and puts each into the file before, while and after it runs."""

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from hotseat.cli.selftest.child import Child, ChildLostError
from hotseat.cli.selftest.file import ReportFile
from hotseat.cli.selftest.rules.entries import MODELS, Entry, Order
from hotseat.cli.selftest.rules.results import BAD, Judged, Result, merged
from hotseat.cli.selftest.rules.scrubbing import scrubbed_result
from hotseat.cli.selftest.rules.verdicts import judge
from hotseat.protocol.selftest import LibraryOrder, Measured

_LIBRARY: Final = "hotseat.library.selftest"
_MEASURES: Final = "hotseat.cli.selftest.measures"
_QUIET: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
_OURS: Final = "HOTSEAT_"


class _Heard:
    """What the processes of an entry said by now: those that are done, and the one that is not."""

    def __init__(self) -> None:
        self._done: list[Measured] = []
        self._under_way: Measured | None = None

    def take(self, measured: Measured) -> None:
        """A line; it has all that its process knows by then."""
        self._under_way = None if measured.is_last else measured
        if measured.is_last:
            self._done.append(measured)

    def known(self) -> Measured:
        """Samples of all of them."""
        return merged((*self._done, *([self._under_way] if self._under_way else [])))


class Runner:
    """One run. `tell` hears of each entry as it begins and as it ended."""

    def __init__(
        self,
        file: ReportFile,
        base: Path,
        names: Collection[str],
        tell: Callable[[Result], None],
        *,
        shares_daemon: bool,
    ) -> None:
        """`names`: what is taken out of everything that a process says."""
        self._file = file
        self._base = base
        self._names = names
        self._tell = tell
        self._shares_daemon = shares_daemon
        self._child: Child | None = None
        self._has_models = False

    def run(self, entries: Collection[Entry]) -> None:
        """All of them; what ends us early leaves no process behind."""
        try:
            for entry in entries:
                self._run_entry(entry)
            self._let_go(time.monotonic() + max(entry.limit_s for entry in entries))
        finally:
            if self._child is not None:
                self._child.kill()

    def _run_entry(self, entry: Entry) -> None:
        started = time.monotonic()
        begun = Result(
            name=entry.name,
            measures=entry.measures,
            expected=entry.expected,
            verdict="running",
        )

        def put(measured: Measured, judged: Judged) -> Result:
            result = replace(
                begun,
                verdict=judged.verdict,
                reason=judged.reason,
                seconds=round(time.monotonic() - started, 3),
                figures=measured.figures,
                facts=measured.facts,
                absent=measured.absent,
            )
            result = scrubbed_result(result, self._names)
            self._file.put(result)
            return result

        heard = _Heard()

        def hear(measured: Measured) -> None:
            heard.take(measured)
            put(heard.known(), Judged("running"))

        self._tell(put(Measured(), Judged("running")))
        try:
            judged = self._judged(entry, started + entry.limit_s, heard, hear)
        except KeyboardInterrupt:
            put(heard.known(), Judged("interrupted"))
            raise
        result = put(heard.known(), judged)
        if entry.name == MODELS:
            self._has_models = result.verdict not in BAD
        self._tell(result)

    def _judged(
        self, entry: Entry, until: float, heard: _Heard, hear: Callable[[Measured], None]
    ) -> Judged:
        if entry.needs_models and not self._has_models:
            return Judged("skipped", "there are no models to run it with")
        try:
            for order in entry.orders:
                heard.take(self._ask(order, until, hear))
        except TimeoutError:
            self._end_child()
            return Judged("timed out", f"not done after {entry.limit_s:g} s")
        except ChildLostError as error:
            self._end_child()
            return Judged("failed", str(error))
        return judge(entry.name, heard.known())

    def _ask(self, order: Order, until: float, hear: Callable[[Measured], None]) -> Measured:
        is_library = isinstance(order, LibraryOrder)
        module = _LIBRARY if is_library else _MEASURES
        if self._child is None or self._child.module != module:
            self._let_go(until)
            self._child = Child(module, self._environment(), self._base / "stderr")
        found = self._child.ask(order, until, hear)
        if is_library or not self._shares_daemon:
            self._let_go(until)
        return found

    def _let_go(self, until: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close(until)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _environment(self) -> Mapping[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
        return kept | _QUIET
