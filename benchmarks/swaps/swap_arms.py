"""The two ways from "B is asked for" to B's first token: three bare acts, and hotseat's swap.

Must not know targets or how the models were made.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.homes import wait_quiet
from benchmarks.measure import Arm

SCRIPT = Path(__file__).with_name("bare_process.py")
PROMPT = (7, 21, 101, 66, 305, 42, 8, 90)
PHASES = ("drain_s", "checkpoint_s", "stop_s", "reclaim_s", "load_s", "warm_s")
BARE_PARTS = ("exit_s", "weights_s", "tokenizer_s", "token_s")


class BareProcess:
    """One process of the bare arm."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def hear(self) -> dict[str, float]:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a bare process ended with {self._process.wait()}")
        return json.loads(line)

    def load(self, folder: Path) -> dict[str, float]:
        """Loads and makes a token; what each part took."""
        assert self._process.stdin is not None
        order = {"folder": str(folder), "prompt": list(PROMPT)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Returns when it is reaped."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class BareArm:
    """A process that holds the old model ends and is reaped; a waiting one loads the new one."""

    def __init__(self, seated: Path) -> None:
        self.arm = Arm("bare: exit, mlx_lm.load, token")
        self.parts = {part: Arm(f"  bare {part[:-2]}") for part in BARE_PARTS}
        self._holder = BareProcess()
        self._holder.hear()
        self._holder.load(seated)
        self._waiting = BareProcess()
        self._waiting.hear()

    def swap(self, folder: Path) -> None:
        """One sample; the process for the next one is started behind it."""
        started = time.monotonic()
        self._holder.end()
        ended = time.monotonic()
        facts = self._waiting.load(folder)
        self.arm.samples.append(time.monotonic() - started)
        for part, seconds in (facts | {"exit_s": ended - started}).items():
            if part in self.parts:
                self.parts[part].samples.append(float(seconds))
        self._holder, self._waiting = self._waiting, BareProcess()
        self._waiting.hear()

    def forget(self) -> float:
        """Takes the last sample out again; how long the swap took."""
        return forget_last(self.arm, self.parts)

    def close(self) -> None:
        """Ends both processes."""
        for process in (self._holder, self._waiting):
            with contextlib.suppress(OSError):
                process.end()


class HotseatArm:
    """Client, daemon, worker and standby as a user has them, in a home of their own."""

    def __init__(self, folders: Sequence[Path]) -> None:
        from tests.support.daemons.live_daemon import LiveDaemon

        from hotseat.library.importing import import_model

        self.arm = Arm("hotseat: request to first token")
        self.parts = {part: Arm(f"  hotseat {part[:-2]}") for part in (*PHASES, "rest_s")}
        self.daemon = LiveDaemon(standby=True)
        for folder in folders:
            import_model(folder, self.daemon.home, folder.name, lambda _phase, _percent: None)
        self.daemon.start()
        self.client = self.daemon.client()
        self._events = self.client.events()
        self._seat(folders[0].name)
        self.settle()

    def settle(self) -> None:
        """Waits until the standby is ready, tokenizers and touched memory included."""
        wait_quiet(self.client, self.daemon)

    def swap(self, folder: Path) -> None:
        """One sample; returns when the next standby is ready."""
        took_s = self._seat(folder.name)
        self.arm.samples.append(took_s)
        facts = self._swap_facts()
        for part in PHASES:
            self.parts[part].samples.append(float(facts["phases"][part]))
        self.parts["rest_s"].samples.append(took_s - float(facts["total_s"]))
        self.settle()

    def forget(self) -> float:
        """Takes the last sample out again; how long the swap took."""
        return forget_last(self.arm, self.parts)

    def close(self) -> None:
        """Ends the daemon and removes its home."""
        self.daemon.__exit__()

    def _seat(self, model: str) -> float:
        started = time.monotonic()
        stream = self.client.generate(model, tokens=PROMPT, max_tokens=4)
        next(iter(stream))
        took_s = time.monotonic() - started
        stream.result()
        return took_s

    def _swap_facts(self) -> dict:
        """Of the newest swap."""
        found = None
        while True:
            event = self._events.next(timeout_s=None if found is None else 0.05)
            if event is None:
                return found
            if getattr(event, "name", "") == "swap.finished":
                found = event.facts


def forget_last(arm: Arm, parts: Mapping[str, Arm]) -> float:
    """Removes a swap that is no sample from an arm and its parts; what the arm had."""
    for part in parts.values():
        part.samples.pop()
    return arm.samples.pop()
