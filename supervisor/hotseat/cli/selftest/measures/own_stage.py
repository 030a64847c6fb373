"""The daemon that entries of one process talk to, and what they ask of it. Measures nothing."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from hotseat.cli.home.own_daemon import OwnDaemon
from hotseat.cli.selftest.rules.orders import Stage
from hotseat.client import Client
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import StatusView

_WAIT_S: Final = 60.0
_POLL_S: Final = 0.02
_FIRST_TOKENS: Final = 32
_READY: Final = "ready"


class Answer(Struct, frozen=True, kw_only=True):
    """One greedy answer and when it came, seconds from the call."""

    tokens: tuple[int, ...]
    first_s: float
    tokens_per_s: float
    """Of the first 32, behind the first."""
    prompt_tokens: int
    restored_tokens: int
    disk_tokens: int


class OwnStage:
    """Started when a client is asked for; goes on with the next entry that wants the same."""

    def __init__(self) -> None:
        self._daemon: OwnDaemon | None = None
        self._client: Client | None = None
        self._asked: object = None

    def client(
        self, stage: Stage, settings: str = "", variables: Mapping[str, str] | None = None
    ) -> Client:
        """A client of a daemon with these settings, beside those of the stage."""
        asked = (stage, settings, variables)
        if self._client is not None and self._asked == asked:
            return self._client
        self.close()
        home = Path(stage.home)
        standby = "" if stage.standby else '[seat]\nstandby = "off"\n'
        (home / "config.toml").write_text(standby + settings, encoding="utf-8")
        self._daemon = OwnDaemon(home, Path(stage.seat_lock), home.parent / "daemon.stderr")
        self._client = Client(endpoint=self._daemon.start(**(variables or {})), name="selftest")
        self._asked = asked
        return self._client

    def kill_daemon(self) -> None:
        """As a crash would; `close` comes afterwards."""
        if self._daemon is not None:
            self._daemon.kill()

    def close(self) -> None:
        """Ends client and daemon in order."""
        if self._client is not None:
            with contextlib.suppress(HotseatError):
                self._client.close()
            self._client = None
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None


def wait_for(client: Client, is_so: Callable[[StatusView], bool], what: str) -> StatusView:
    """The first status of which it is so; deadline_exceeded if there is none in a minute."""
    until = time.monotonic() + _WAIT_S
    while True:
        view = client.status()
        if is_so(view):
            return view
        if time.monotonic() > until:
            raise HotseatError("deadline_exceeded", f"{what} within {_WAIT_S:g} s did not happen")
        time.sleep(_POLL_S)


def seated(client: Client, model: str) -> int:
    """Process of the worker that has the model, which is seated if it is not."""
    view = client.status()
    if (view.phase, view.model) != (_READY, model):
        client.swap(model)
    view = wait_for(client, lambda seen: seen.phase == _READY and bool(seen.worker.pid), "a worker")
    return view.worker.pid or 0


def ask(client: Client, model: str, text: str, max_tokens: int, **options: Any) -> Answer:
    """Greedy; returns when it is done."""
    started = time.monotonic()
    with client.generate(
        model, **said(client, model, text, options), max_tokens=max_tokens, top_k=1
    ) as stream:
        arrivals = [(time.monotonic(), len(chunk.tokens)) for chunk in stream if chunk.tokens]
        done = stream.result()
    return Answer(
        tokens=done.tokens,
        first_s=arrivals[0][0] - started,
        tokens_per_s=_early_rate(arrivals),
        prompt_tokens=done.usage.prompt_tokens,
        restored_tokens=done.usage.restored_tokens,
        disk_tokens=done.usage.disk_tokens,
    )


def said(client: Client, model: str, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a request with this text, as the model takes it."""
    view = next(view for view in client.models() if view.name == model)
    is_raw = view.append == "raw"
    key = "append" if options.get("session") else "prompt" if is_raw else "messages"
    content = text if is_raw else [{"role": "user", "content": text}]
    return {**options, key: content}


def _early_rate(arrivals: list[tuple[float, int]]) -> float:
    """Tokens a second from the first one on; 0 if all came at once."""
    made, (first_at, first) = 0, arrivals[0]
    last_at = first_at
    for at, count in arrivals[1:]:
        made, last_at = made + count, at
        if first + made >= _FIRST_TOKENS:
            break
    return made / (last_at - first_at) if last_at > first_at else 0.0


def difference(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The first position at which they differ; -1 if they do not."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return -1 if len(one) == len(other) else min(len(one), len(other))
