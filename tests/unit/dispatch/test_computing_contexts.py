"""The request that computes a cold context: when it begins, what it is, what ends it."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record
from tests.unit.dispatch.test_cold_contexts import session

from hotseat.protocol.replies import Done, ErrorBody, Timing, Usage
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.dispatch.cold_contexts import (
    BATTERY_S,
    UNPLUGGED_S,
    ColdContexts,
    Surroundings,
)
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.requests.session_store import tokenizer_digest
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.settings.values import Settings

RECORD = model_record("m", tag="new")
QUIET_S = Settings().kv.idle_checkpoint_s
TOKENS = range(500)


class Daemon:
    """What contexts are computed beside, with sessions `s0` (newest), `s1`, ... that are cold."""

    def __init__(self, count=2, *, persists=True, tokenizer=None, stale=False):
        self.now = time.monotonic()
        self.sessions = [session(f"s{n}", used_at=time.time() - n) for n in range(count)]
        self.tokenizer = tokenizer or tokenizer_digest(RECORD)
        self.stale = stale
        self.heard, self.adopted, self.battery_reads = [], [], 0
        self.on_battery = False
        self.works = Works()
        self.memory = SimpleNamespace(is_short=False)
        self.swaps = SimpleNamespace(wanted=())
        self.seat = SimpleNamespace(
            seated="m", record=RECORD, state=SimpleNamespace(seated_at=self.now)
        )
        self.events = EventLog(self.heard.append)
        self.contexts = ColdContexts(
            beside=Surroundings(
                seat=self.seat,
                works=self.works,
                swaps=self.swaps,
                releases=SimpleNamespace(is_asked=False),
                memory=self.memory,
                on_battery=self.read_battery,
            ),
            runs=SimpleNamespace(cancel=lambda work: setattr(work, "cancel_asked", True)),
            sessions=SimpleNamespace(load=self.load, adopt=self.adopt),
            catalogue=SimpleNamespace(session_summaries=self.summaries),
            keeper=SimpleNamespace(unlink=self.unlink),
            admission=SimpleNamespace(persists=lambda _model: persists),
            events=self.events,
            settings=Settings(),
        )

    def read_battery(self):
        self.battery_reads += 1
        return self.on_battery

    async def load(self, _model, name):
        return SimpleNamespace(
            name=name,
            tokens=pack_tokens(TOKENS),
            tokenizer_digest=self.tokenizer,
            pinned=False,
            stale=self.stale,
        )

    async def adopt(self, row, tag):
        self.adopted.append((row.name, tag))
        self.sessions = [one for one in self.sessions if one.name != row.name]
        return []

    async def summaries(self, _model):
        return self.sessions

    async def unlink(self, files):
        assert files == []

    async def tick(self, after_s=QUIET_S + 1.0):
        """Ticks then; the request that is under way after it, if any."""
        self.contexts.tick(self.now + after_s)
        await asyncio.wait_for(self.contexts.settle(), 10.0)
        waiting = self.works.in_state(WorkState.WAITING)
        return waiting[0] if waiting else None

    async def end(self, work, end):
        work.end = end
        self.works.mark_ended(work)
        await self.tick()

    def names(self):
        return [event.name for event in self.heard]


def done(reason="length"):
    usage = Usage(prompt_tokens=len(TOKENS), computed_tokens=len(TOKENS))
    return Done(model="m", text="", tokens=(), finish_reason=reason, usage=usage, timing=Timing())


async def test_one_after_the_other_is_a_request_of_nobody_and_is_kept():
    daemon = Daemon()
    assert await daemon.tick(QUIET_S - 1.0) is None
    first = await daemon.tick()
    assert (first.client, first.readers, first.session_key) == ("hotseat", [], None)
    assert (first.request.tokens, first.request.max_tokens) == (tuple(TOKENS), 0)
    assert first.request.swap == "never"
    await daemon.end(first, done())
    assert daemon.adopted == [("s0", "new")]
    second = await daemon.tick()
    await daemon.end(second, done())
    assert daemon.adopted == [("s0", "new"), ("s1", "new")]
    assert await daemon.tick() is None
    assert daemon.names() == ["context.computing", "context.computed"] * 2
    assert daemon.works.get(first.key) is None, "nobody asks for its reply"


@pytest.mark.parametrize("what", ["request", "swap", "memory", "seat", "battery"])
async def test_whatever_comes_cancels_it_at_once_and_it_is_tried_again(what):
    daemon = Daemon(1)
    work = await daemon.tick()
    daemon.events.publish("request.started")
    assert not work.cancel_asked, "its own events disturb nobody"
    other = None
    match what:
        case "request":
            other = daemon.works.create("t:1", "1", "agent", work.request)
        case "swap":
            daemon.swaps.wanted = ("b",)
        case "memory":
            daemon.memory.is_short = True
        case "seat":
            daemon.seat.seated = None
        case "battery":
            daemon.on_battery = True
            daemon.contexts.tick(daemon.now + QUIET_S + BATTERY_S + 2.0)
    daemon.events.publish("request.accepted")
    assert work.cancel_asked
    await daemon.end(work, done("cancelled"))
    assert daemon.adopted == []
    assert daemon.names()[-1] == "context.gave_way"
    if other is not None:
        daemon.works.forget(other)
    daemon.swaps.wanted, daemon.memory.is_short, daemon.on_battery = (), False, False
    daemon.seat.seated = "m"
    assert await daemon.tick(QUIET_S / 2) is None, "it is not quiet yet"
    assert await daemon.tick(2 * QUIET_S + UNPLUGGED_S) is not None


async def test_on_battery_nothing_begins_and_the_battery_is_looked_at_now_and_then():
    daemon = Daemon(1)
    daemon.on_battery = True
    for second in range(30):
        assert await daemon.tick(QUIET_S + 1.0 + second) is None
    assert daemon.battery_reads == 1
    daemon.on_battery = False
    assert await daemon.tick(QUIET_S + 2.0 + UNPLUGGED_S) is not None


@pytest.mark.parametrize(
    "options", [{"persists": False}, {"tokenizer": "other"}, {"stale": True}, {"count": 0}]
)
async def test_what_would_be_of_no_use_is_not_computed(options):
    daemon = Daemon(**options)
    for second in range(4):
        assert await daemon.tick(QUIET_S + 1.0 + second) is None
    assert daemon.heard == []


async def test_one_that_fails_is_left_to_its_next_turn():
    daemon = Daemon()
    first = await daemon.tick()
    await daemon.end(first, ErrorBody(code="poison_request", message="why"))
    assert daemon.heard[-1].facts["reason"] == "why"
    second = await daemon.tick()
    await daemon.end(second, done())
    assert daemon.adopted == [("s1", "new")]
    assert await daemon.tick() is None
