"""Daemons with models in homes of their own, and what benchmarks ask of them.

Must not know targets or what is compared.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S = 60.0
OTHER = "other"
IDLE_WINDOW_S = 0.4
IDLE_CPU_S = 0.02


def daemon_with(
    models: Sequence[Path] = (), tiny: Sequence[tuple[str, str]] = (), **options: Any
) -> Any:
    """A daemon that is not started yet; `models` are folders, `tiny` pairs of name and kind."""
    from tests.support.daemons.live_daemon import LiveDaemon
    from tests.support.models.tiny_models import register_tiny

    from hotseat.library.importing import import_model

    daemon = LiveDaemon(**options)
    for folder in models:
        import_model(folder, daemon.home, folder.name, lambda _phase, _percent: None)
    for seed, (name, kind) in enumerate(tiny):
        register_tiny(daemon.home, name, kind, seed=seed)
    return daemon


def seat_as_shipped(model: Path, name: str) -> Any:
    """A daemon of the default settings that has just swapped to `model`, and its next standby.

    Its weights are where every swap puts them: in memory that the standby touched ahead.
    """
    daemon = daemon_with(tiny=[(OTHER, "llama")], standby=True)
    from hotseat.library.importing import import_model

    import_model(model, daemon.home, name, lambda _phase, _percent: None)
    daemon.start()
    client = daemon.client()
    # There and back once: what is likely next is known from what was there.
    for seated in (name, OTHER, name):
        client.swap(seated)
        wait_quiet(client, daemon)
    return daemon


@dataclass(frozen=True)
class Turn:
    """One answered request. `first_token_s`: from the call to the first chunk at the client."""

    first_token_s: float
    decode_rate: float
    done: Any


def ask(client: Any, model: str, **what: Any) -> Turn:
    """Greedy; returns when it is done."""
    started = time.monotonic()
    stream = client.generate(model, temperature=0.0, **what)
    arrivals = [(time.monotonic(), len(chunk.tokens)) for chunk in stream]
    done = stream.result()
    (first_at, first), (last_at, _) = arrivals[0], arrivals[-1]
    tokens = sum(count for _, count in arrivals)
    rate = (tokens - first) / (last_at - first_at) if last_at > first_at else 0.0
    return Turn(first_at - started, rate, done)


class Talk:
    """A session fed with ids: tokens of a request begin with all that the session holds."""

    def __init__(self, client: Any, model: str, session: str, held: Sequence[int] = ()) -> None:
        self.held = list(held)
        self._client = client
        self._model = model
        self._session = session

    def turn(self, new: Sequence[int], max_tokens: int) -> Turn:
        """The next turn."""
        prompt = [*self.held, *new]
        made = ask(
            self._client, self._model, tokens=prompt, session=self._session, max_tokens=max_tokens
        )
        self.held = [*prompt, *made.done.tokens]
        return made


def wait_quiet(client: Any, daemon: Any) -> None:
    """The standby is ready with all it prepares ahead, and no worker process computes."""
    from tests.support.daemons.live_daemon import wait_for

    def is_quiet() -> bool:
        before = _cpu_s(daemon)
        time.sleep(IDLE_WINDOW_S)
        return _cpu_s(daemon) - before < IDLE_CPU_S

    wait_for(lambda: client.status().standby.ready, READY_S, "standby ready")
    wait_for(is_quiet, READY_S, "a quiet daemon")


def _cpu_s(daemon: Any) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in daemon.workers())


def ids(count: int, seed: int) -> list[int]:
    """Token ids that no other seed begins with."""
    state = seed * 7919 + 17
    found = [5 + seed % 400]
    for _ in range(count - 1):
        state = (state * 1103515245 + 12345) % 2**31
        found.append(5 + (state >> 8) % 400)
    return found


def kv_files(home: Path, kind: str) -> dict[str, int]:
    """Sizes of all KV files of a kind: blocks, tails or snapshots."""
    return {
        str(path.relative_to(home)): path.stat().st_size
        for path in (home / "kv").glob(f"*/{kind}/**/*.kv")
    }
