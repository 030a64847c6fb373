"""Both sides of the comparisons with other servers: the same turns asked of each, arms alternating.

Must not know targets. Every arm is quiet when another one is measured.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.homes import wait_quiet
from benchmarks.measure import Arm, base_parser, console
from benchmarks.peers.neighbours import Answer, HttpServer

MAX_TOKENS = 8
PHASES = ("drain_s", "checkpoint_s", "stop_s", "reclaim_s", "load_s", "warm_s")
_OPENBLAS = "usr/lib/*/openblas-pthread/libopenblas.so.0"
Messages = list[dict[str, str]]


class Side(Protocol):
    """Something that answers turns. `arm` gets the times of those that are measured."""

    arm: Arm

    def ask_raw(self, model: Path, prompt: str) -> Answer:
        """Goes on with a text; time runs from the request to the first text."""

    def ask_chat(self, model: Path, messages: Messages) -> Answer:
        """The reply to `messages`."""

    def go_on(self, model: Path, conversation: Messages) -> Answer:
        """The reply to the last message of a conversation that it may know."""

    def settle(self) -> None:
        """Returns when nothing works in the background."""

    def close(self) -> None:
        """Ends its processes."""


class Neighbour:
    """A server over HTTP: every request carries the whole conversation."""

    def __init__(self, server: HttpServer, name: str, model_name: Callable[[Path], str]) -> None:
        self.arm = Arm(name)
        self._server = server
        self._model_name = model_name

    def ask_raw(self, model: Path, prompt: str) -> Answer:
        """/v1/completions."""
        return self._server.ask(self._model_name(model), prompt, MAX_TOKENS)

    def ask_chat(self, model: Path, messages: Messages) -> Answer:
        """/v1/chat/completions."""
        return self._server.ask(self._model_name(model), messages, MAX_TOKENS)

    def go_on(self, model: Path, conversation: Messages) -> Answer:
        """The whole conversation is sent."""
        return self.ask_chat(model, conversation)

    def settle(self) -> None:
        """Its processes do nothing between requests."""

    def close(self) -> None:
        """Ends the server."""
        self._server.close()


class Hotseat:
    """Client, daemon, worker and standby as a user has them, in a home of their own."""

    def __init__(self, models: Sequence[Path]) -> None:
        from tests.support.daemons.live_daemon import LiveDaemon

        from hotseat.library.importing import import_model

        self.arm = Arm("hotseat: process swap")
        self.parts = {part: Arm(f"  {part[:-2]}") for part in (*PHASES, "other_s")}
        self._daemon = LiveDaemon(standby=True)
        for folder in models:
            import_model(folder, self._daemon.home, folder.name, lambda _phase, _percent: None)
        self._daemon.start()
        self._client = self._daemon.client()
        self._events = self._client.events(topics=("swap.finished",))

    def ask_raw(self, model: Path, prompt: str) -> Answer:
        """`prompt`: raw text."""
        return self._generate(model, prompt=prompt)

    def ask_chat(self, model: Path, messages: Messages) -> Answer:
        """`messages`, without a session."""
        return self._generate(model, messages=messages)

    def go_on(self, model: Path, conversation: Messages) -> Answer:
        """Only the last message is sent: the session holds the rest."""
        return self._generate(model, session="held", append=conversation[-1:])

    def settle(self) -> None:
        """The next standby is ready and no process of the daemon computes."""
        wait_quiet(self._client, self._daemon)

    def note_parts(self, answer: Answer) -> None:
        """Splits what the last swap took; `other` is all outside the swap's own phases."""
        facts = self._last_swap()
        for part in PHASES:
            self.parts[part].samples.append(float(facts["phases"][part]))
        other_s = answer.first_token_s - float(facts["total_s"])
        self.parts["other_s"].samples.append(other_s)

    def close(self) -> None:
        """Ends the daemon and removes its home."""
        self._daemon.__exit__()

    def _generate(self, model: Path, **what: object) -> Answer:
        started = time.monotonic()
        first_s = 0.0
        options = what | {"max_tokens": MAX_TOKENS, "temperature": 0.0}
        stream = self._client.generate(model.name, **options)
        for piece in stream.text():
            first_s = first_s or (time.monotonic() - started if piece else 0.0)
        done = stream.result()
        return Answer(first_s, done.text, done.usage.prompt_tokens, done.usage.restored_tokens)

    def _last_swap(self) -> dict:
        found = None
        while True:
            event = self._events.next(timeout_s=10.0 if found is None else 0.05)
            if event is None:
                return found
            found = event.facts


def use_blas(choice: str) -> None:
    """Has every process started from here use it: auto, bundled, or the path of a library."""
    found = str(next(iter(sorted(Path("/").glob(_OPENBLAS))), "")) if choice == "auto" else choice
    if choice == "bundled" or not found:
        console.print("BLAS of both arms: the one that mlx brings")
        return
    os.environ["LD_PRELOAD"] = found
    console.print(f"BLAS of both arms: {found}, preloaded")


def comparison_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options of the comparisons."""
    parser = base_parser(name, about, n=20)
    parser.add_argument("--blas", default="auto", help="auto (OpenBLAS if there), bundled, PATH")
    return parser


def settle_all(sides: Sequence[Side]) -> None:
    for side in sides:
        side.settle()
