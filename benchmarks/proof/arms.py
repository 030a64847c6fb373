"""The ways of having three models for three agents. Must not know limits or what is compared."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from benchmarks.proof.groups import Group

START_S = 120.0


class FailedError(Exception):
    """An arm did not answer; the text says what happened."""


class Way(Struct, frozen=True, kw_only=True):
    """An arm. `has_swap`: its group may swap."""

    name: str
    kind: str
    about: str
    has_swap: bool = True


WAYS = {
    way.name: way
    for way in (
        Way(name="kept", kind="kept", about="three processes keep their models, the OS swaps"),
        Way(
            name="kept-no-swap",
            kind="kept",
            about="three processes kept, without swap",
            has_swap=False,
        ),
        Way(name="one", kind="one", about="one process, one model after the other, no contexts"),
        Way(name="hotseat", kind="hotseat", about="hotseat as shipped"),
        Way(
            name="hotseat-no-swap",
            kind="hotseat",
            about="hotseat as shipped, without swap",
            has_swap=False,
        ),
    )
}


class Answer(Struct, frozen=True, kw_only=True):
    """`arrived_s`: of each token, from the request on. `restored`: tokens not computed."""

    arrived_s: tuple[float, ...]
    tokens: tuple[int, ...]
    restored: int


class Subject(Protocol):
    """An arm at work."""

    def turn(self, model: str, tokens: Sequence[int], max_tokens: int, until: float) -> Answer:
        """The greedy answer to a prompt; raises `FailedError`. `until`: on the monotonic clock."""

    def written_bytes(self) -> int:
        """What it wrote to the disk itself."""

    def close(self) -> None:
        """Ends it."""


class Processes:
    """One or several processes of `coresident.py`."""

    def __init__(self, group: Group, sets: Sequence[Sequence[Path]], mode: str) -> None:
        self._owners: dict[str, _Lines] = {}
        for folders in sets:
            command = [sys.executable, "-m", "benchmarks.proof.coresident", mode]
            lines = _Lines(group.inside([*command, *map(str, folders)]))
            self._owners |= {folder.name: lines for folder in folders}
        for lines in self._each():
            lines.next(time.monotonic() + START_S)

    def turn(self, model: str, tokens: Sequence[int], max_tokens: int, until: float) -> Answer:
        """One request to the process that has the model."""
        lines, began = self._owners[model], time.monotonic()
        lines.say({"model": model, "tokens": list(tokens), "max_tokens": max_tokens})
        arrived, made = [], []
        while True:
            at, fact = lines.next(until)
            if "token" not in fact:
                return Answer(
                    arrived_s=tuple(arrived), tokens=tuple(made), restored=fact["restored"]
                )
            arrived.append(at - began)
            made.append(fact["token"])

    def written_bytes(self) -> int:
        """They write nothing; the system swaps for them."""
        return 0

    def close(self) -> None:
        """Kills them: they hold nothing worth keeping."""
        for lines in self._each():
            lines.kill()

    def _each(self) -> "list[_Lines]":
        return list({id(lines): lines for lines in self._owners.values()}.values())


class Daemon:
    """`hotseat` with its defaults, in a home of its own, and its client."""

    def __init__(self, group: Group, folders: Sequence[Path]) -> None:
        from tests.support.daemons.live_daemon import LiveDaemon

        from hotseat.library.importing import import_model

        self._daemon = LiveDaemon(standby=True)
        for folder in folders:
            import_model(folder, self._daemon.home, folder.name, lambda _phase, _percent: None)
        self._daemon.command = group.inside(self._daemon.command)

    def start(self) -> None:
        """Apart from the import, which reads all weights outside of the group.

        Like `Processes` it is there once its libraries are loaded: those of the standby.
        """
        from tests.support.daemons.live_daemon import wait_for

        try:
            self._daemon.start()
            self._client = self._daemon.client(name="proof")
            wait_for(lambda: self._client.status().standby.ready, START_S, "the standby")
        except AssertionError as error:
            raise FailedError(str(error)[:300]) from error

    def turn(self, model: str, tokens: Sequence[int], max_tokens: int, until: float) -> Answer:
        """A request of a session that holds what came before."""
        answers: queue.Queue[Answer | Exception] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(self._ask(model, list(tokens), max_tokens))
            except Exception as error:  # noqa: BLE001 (goes to whoever waits)
                answers.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            found = answers.get(timeout=max(0.1, until - time.monotonic()))
        except queue.Empty:
            raise FailedError("not done in time") from None
        if isinstance(found, Exception):
            raise FailedError(without_others(str(found) or type(found).__name__))
        return found

    def written_bytes(self) -> int:
        """Contexts."""
        with contextlib.suppress(Exception):
            return int(self._client.disk().bytes_written)
        return 0

    def close(self) -> None:
        """Ends it in order; what does not end is killed with the group."""
        with contextlib.suppress(AssertionError):
            self._daemon.__exit__()

    def _ask(self, model: str, tokens: list[int], max_tokens: int) -> Answer:
        began = time.monotonic()
        stream = self._client.generate(
            model, session="agent", tokens=tokens, max_tokens=max_tokens, temperature=0.0
        )
        arrived: list[float] = []
        made: list[int] = []
        for chunk in stream:
            arrived += [time.monotonic() - began] * len(chunk.tokens)
            made += chunk.tokens
        done = stream.result()
        return Answer(
            arrived_s=tuple(arrived), tokens=tuple(made), restored=done.usage.restored_tokens
        )


def started(kind: str, group: Group, folders: Sequence[Path]) -> Subject:
    """An arm at work, its processes inside the group. Raises `FailedError`."""
    match kind:
        case "kept":
            return Processes(group, [[folder] for folder in folders], "keep")
        case "one":
            return Processes(group, [folders], "one")
    daemon = Daemon(group, folders)
    for folder in folders:
        forget(folder)
    daemon.start()
    return daemon


def without_others(reason: str) -> str:
    """A refusal without the names of other programs: they have no business in a result file."""
    before, _, after = reason.partition("; largest holders: ")
    return before if not after else f"{before}; {after.partition('; ')[2]}"


def forget(folder: Path) -> None:
    """Whoever reads the files next pays for their pages; see `measure.drop_pages`."""
    from benchmarks.measure import drop_pages

    drop_pages(folder)


class _Lines:
    """A process that speaks JSON lines, with the moments at which they came."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[tuple[float, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, fact: object) -> None:
        """Raises `FailedError` when it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(fact) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise FailedError(self._end()) from error

    def next(self, until: float) -> tuple[float, Any]:
        """Raises `FailedError` when it is gone or nothing comes in time."""
        try:
            found = self._lines.get(timeout=max(0.1, until - time.monotonic()))
        except queue.Empty:
            raise FailedError("not done in time") from None
        if found is None:
            raise FailedError(self._end())
        return found

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()

    def _end(self) -> str:
        code = self._process.wait(START_S)
        return "killed by the system" if code == -9 else f"ended with {code}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put((time.monotonic(), json.loads(line)))
        self._lines.put(None)
