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

        self._tell(put(Measured(), Judged("running")))
        parts: list[Measured] = []
        try:
            judged = self._judged(entry, started + entry.limit_s, parts, put)
        except KeyboardInterrupt:
            put(merged(tuple(parts)), Judged("interrupted"))
            raise
        result = put(merged(tuple(parts)), judged)
        if entry.name == MODELS:
            self._has_models = result.verdict not in BAD
        self._tell(result)

    def _judged(
        self,
        entry: Entry,
        until: float,
        parts: list[Measured],
        put: Callable[[Measured, Judged], Result],
    ) -> Judged:
        """What was measured is in `parts`, whatever the end was."""
        if entry.needs_models and not self._has_models:
            return Judged("skipped", "there are no models to run it with")
        partial: list[Measured] = []

        def hear(measured: Measured) -> None:
            partial[:] = [measured]
            put(merged((*parts, measured)), Judged("running"))

        try:
            for order in entry.orders:
                partial.clear()
                parts.append(self._ask(order, until, hear))
            partial.clear()
        except TimeoutError:
            parts += partial
            self._end_child()
            return Judged("timed out", f"not done after {entry.limit_s:g} s")
        except ChildLostError as error:
            parts += partial
            self._end_child()
            return Judged("failed", str(error))
        return judge(entry.name, merged(tuple(parts)))

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
        return kept | _QUIET | {"TMPDIR": str(self._base)}
