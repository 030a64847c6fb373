"""Workers and daemons that are killed: who notices, what goes on, what comes back."""

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from hotseat.cli.selftest.measures.memory import Return
from hotseat.cli.selftest.measures.own_stage import (
    OwnStage,
    ask,
    difference,
    said,
    seated,
    wait_for,
)
from hotseat.cli.selftest.rules.orders import CountRoundTrips, KillBusy, KillIdle
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.protocol.selftest import Absent, Figure, Measured, figure, sample_text
from hotseat.supervisor.machine.processes import is_alive

if TYPE_CHECKING:
    from hotseat.client.sync import Client, EventStream

_MS: Final = 1000.0
_EVENT_S: Final = 30.0
_GONE_S: Final = 30.0
_POLL_S: Final = 0.005
_WORDS: Final = 20
_KILL: Final = signal.SIGKILL


def count_round_trips(order: CountRoundTrips, own: OwnStage) -> Measured:
    """Milliseconds from a call to its answer, through both sockets and the daemon's loop."""
    client = own.client(order.stage)
    client.status()
    found = []
    for _ in range(order.count):
        started = time.perf_counter()
        client.status()
        found.append((time.perf_counter() - started) * _MS)
    return Measured(figures=(figure("round_trip_ms", *found),))


def kill_idle(order: KillIdle, own: OwnStage) -> Measured:
    """Without a standby, so that a worker's start is a process's start."""
    client = own.client(replace(order.stage, standby=False))
    model = order.stage.model
    noticed_ms, hello_s, again_s = [], [], []
    pid = seated(client, model)
    with client.events(topics=("worker", "seat")) as events:
        for _ in range(order.count):
            # A worker that dies without having done anything is not started again for ever.
            ask(client, model, sample_text(_WORDS), 1)
            os.kill(pid, _KILL)
            killed = time.monotonic()
            _await(events, "worker.exited", "pid", pid)
            noticed_ms.append((time.monotonic() - killed) * _MS)
            hello_s.append(_hello_s(events))
            pid = _worker_after(client, pid)
            again_s.append(time.monotonic() - killed)
    killed = time.monotonic()
    own.kill_daemon()
    while is_alive(pid) and time.monotonic() - killed < _GONE_S:
        time.sleep(_POLL_S)
    gone_s = time.monotonic() - killed
    own.close()
    return Measured(
        figures=(
            figure("hello_s", *hello_s),
            figure("kill_noticed_ms", *noticed_ms),
            figure("ready_again_s", *again_s),
            figure("orphan_gone_s", gone_s),
        )
    )


def kill_busy(order: KillBusy, own: OwnStage) -> Measured:
    """The same answer again and again; all but the first lose their worker in the middle."""
    client, model = own.client(order.stage), order.stage.model
    pid = seated(client, model)
    text = sample_text(_WORDS, 1)
    whole = ask(client, model, text, order.new_tokens).tokens
    differs, resumed_s, resumed = [], [], []
    figures: list[Figure] = []
    absent: tuple[Absent, ...] = ()
    for _ in range(order.count):
        back = Return(pid)
        with client.generate(
            model, **said(client, model, text, {}), max_tokens=order.new_tokens, top_k=1
        ) as stream:
            next(stream)
            os.kill(pid, _KILL)
            killed = time.monotonic()
            back.wait("memory_back_ms")
            next(stream, None)
            resumed_s.append(time.monotonic() - killed)
            done = stream.result()
        resumed.append(float(bool(done.tokens)))
        differs.append(difference(done.tokens, whole))
        pid = _worker_after(client, pid)
        figures += back.figures
        absent = back.absent or absent
    return Measured(
        figures=(
            figure("resumed_share", *resumed),
            figure("resumed_s", *resumed_s),
            figure("resumed_differs_at", *differs),
            *figures,
        ),
        absent=absent,
    )


def _hello_s(events: "EventStream") -> float:
    """By the daemon's clock, from the start of the process until it may load."""
    starting = _await(events, "seat.phase_changed", "phase", "starting")
    return _await(events, "seat.phase_changed", "phase", "loading").at - starting.at


def _await(events: "EventStream", name: str, fact: str, value: object) -> Event:
    until = time.monotonic() + _EVENT_S
    while time.monotonic() < until:
        event = events.next(timeout_s=_EVENT_S)
        if isinstance(event, Event) and event.name == name and event.facts.get(fact) == value:
            return event
    raise HotseatError("deadline_exceeded", f"no {name} with {fact} {value} in {_EVENT_S:g} s")


def _worker_after(client: "Client", pid: int) -> int:
    view = wait_for(
        client,
        lambda seen: seen.phase == "ready" and seen.worker.pid not in {None, pid},
        "another worker",
    )
    return view.worker.pid or 0
