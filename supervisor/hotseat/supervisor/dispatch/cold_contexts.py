"""Computes contexts again that another version or other weights made cold, while nobody asks.

Each is a request without a reader (`max_tokens` 0), which is cancelled as soon as anything else
comes: it ends behind its chunk, and the blocks it wrote stay. Which and when is decided in
`rules/cold_contexts.py`. Never causes a swap.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestId, RequestKey, SessionName, Tag
from hotseat.protocol.limits import MAX_PRIORITY
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import Done
from hotseat.protocol.tokens import unpack_tokens
from hotseat.supervisor.catalogue.rows import SessionRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.rules.cold_contexts import (
    Moment,
    gives_way,
    may_begin,
    next_to_compute,
)
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.session_store import SessionStore, tokenizer_digest
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

LOOK_S: Final = 3600.0
"""Between two looks at a model whose sessions are all warm: contexts become cold with its tag."""
UNPLUGGED_S: Final = 60.0
"""Between two looks on battery."""
BATTERY_S: Final = 5.0
"""Between two looks at the battery while a context is computed."""
CLIENT: Final = "hotseat"
log = structlog.get_logger()


class ShortMemory(Protocol):
    """Whether memory is so short that anything has to be given up."""

    @property
    def is_short(self) -> bool:
        """True while it is."""


class _Computing(Struct, frozen=True):
    """One that is under way."""

    work: Work
    row: SessionRow
    record: ModelRecord


class Surroundings:
    """What goes on beside a context that is computed. Reads; `own` is the request that does it."""

    def __init__(
        self,
        *,
        seat: Seat,
        works: Works,
        swaps: AskedSwaps,
        releases: Releases,
        memory: ShortMemory,
        on_battery: Callable[[], bool],
    ) -> None:
        self.seat = seat
        self.works = works
        self._swaps = swaps
        self._releases = releases
        self._memory = memory
        self._read_battery = on_battery
        self._on_battery = False
        self._battery_at = float("-inf")

    def look_at_battery(self, now: float) -> bool:
        """True on battery, as of a moment ago."""
        if now - self._battery_at >= BATTERY_S:
            self._battery_at = now
            self._on_battery = self._read_battery()
        return self._on_battery

    def moment(self, own: Work | None, idle_since: float, now: float) -> Moment:
        """As of now; the battery as last looked at."""
        alive = any(work is not own and work.state is not WorkState.ENDED for work in self.works)
        is_own = own is None or own.model == self.seat.seated
        return Moment(
            seated=self.seat.seated is not None and is_own,
            idle_s=now - max(idle_since, self.seat.state.seated_at),
            others=alive or bool(self._swaps.wanted) or self._releases.is_asked,
            memory_short=self._memory.is_short,
            on_battery=self._on_battery,
        )


class ColdContexts:
    """Looks several times a second (`tick`) and at every event; one context at a time."""

    def __init__(
        self,
        *,
        beside: Surroundings,
        runs: WorkRuns,
        sessions: SessionStore,
        catalogue: Catalogue,
        keeper: KvKeeper,
        admission: Admission,
        events: EventLog,
        settings: Settings,
    ) -> None:
        self._beside = beside
        self._runs = runs
        self._sessions = sessions
        self._catalogue = catalogue
        self._keeper = keeper
        self._admission = admission
        self._events = events
        self._quiet_s = settings.kv.idle_checkpoint_s
        self._look_at = float("-inf")
        self._idle_since = time.monotonic()
        self._current: _Computing | None = None
        self._looked_for: Tag | None = None
        self._is_looking = False
        self._settled: set[tuple[Tag, SessionName]] = set()
        """Computed, or left to their next turn."""
        self._number = 0
        self._tasks = TaskSet("contexts.defect", _not_computed)
        events.watch(self.give_way)

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._quiet_s = settings.kv.idle_checkpoint_s

    def tick(self, now: float) -> None:
        """Begins one when it may, gives it up when it must, and keeps what it computed."""
        current = self._current
        if current is not None and current.work.state is WorkState.ENDED:
            self._current = None
            self._is_looking = True
            self._tasks.spawn(self._end(current))
            return
        if current is not None:
            self._beside.look_at_battery(now)
            self.give_way()
            return
        moment = structs.replace(self._moment(now), on_battery=False)  # looked at last: it is dear
        if gives_way(moment):
            self._idle_since = now
        if self._is_looking or not may_begin(moment, self._quiet_s):
            return
        tag = self._tag
        if now < self._look_at and self._looked_for == tag:
            return
        self._looked_for = tag
        if self._beside.look_at_battery(now):
            self._look_at = now + UNPLUGGED_S
            return
        self._look_at = now + LOOK_S
        self._is_looking = True
        self._tasks.spawn(self._begin(now))

    def give_way(self) -> None:
        """Whoever comes meanwhile waits for the chunk under way at most."""
        current = self._current
        if current is None or current.work.cancel_asked:
            return
        if gives_way(self._moment(time.monotonic())):
            self._runs.cancel(current.work)

    async def settle(self) -> None:
        """Returns when what was begun has ended."""
        await self._tasks.settle()

    @property
    def _tag(self) -> Tag | None:
        record = self._beside.seat.record
        return None if record is None else record.tag

    def _moment(self, now: float) -> Moment:
        own = self._current.work if self._current is not None else None
        return self._beside.moment(own, self._idle_since, now)

    async def _begin(self, now: float) -> None:
        try:
            record = self._beside.seat.record
            if record is None or not self._admission.persists(ModelName(record.name)):
                return
            chosen = next_to_compute(
                await self._catalogue.session_summaries(record.name),
                record,
                {name for tag, name in self._settled if tag == record.tag},
                time.time(),
            )
            row = None if chosen is None else await self._sessions.load(record.name, chosen.name)
            if row is None:
                return
            self._look_at = now
            if row.stale or row.tokenizer_digest != tokenizer_digest(record):
                self._settled.add((record.tag, row.name))  # its next turn has other tokens
            elif not gives_way(self._moment(now)):
                self._start(record, row)
        finally:
            self._is_looking = False

    def _start(self, record: ModelRecord, row: SessionRow) -> None:
        """What the session holds as a prompt of nobody: its blocks are found by its next turn."""
        self._number += 1
        request = Generate(
            model=record.name,
            tokens=tuple(unpack_tokens(row.tokens)),
            max_tokens=0,
            swap="never",
            on_vanish="finish",
            priority=-MAX_PRIORITY,
            yield_=True,
        )
        name = f"context-{self._number}"
        work = self._beside.works.create(
            RequestKey(f"{CLIENT}:{name}"), RequestId(name), CLIENT, request
        )
        work.record = record
        work.created_at = time.time()
        work.accepted_at = time.monotonic()
        work.state = WorkState.WAITING
        self._current = _Computing(work, row, record)
        self._events.publish(
            "context.computing",
            request=name,
            model=record.name,
            session=row.name,
            tokens=len(row.tokens) // TOKEN_BYTES,
            pinned=row.pinned,
        )
        self._beside.works.changed.set()

    async def _end(self, computed: _Computing) -> None:
        """The session is bound to what was computed, unless it is another one by now."""
        try:
            work, row, record = computed.work, computed.row, computed.record
            self._beside.works.forget(work)  # its prompt is as long as the context
            facts: dict[str, Any] = {
                "request": work.request_id,
                "model": record.name,
                "session": row.name,
            }
            end = work.end
            if not isinstance(end, Done):
                self._settled.add((record.tag, row.name))
                reason = "" if end is None else end.message
                self._events.publish("context.given_up", reason=reason, **facts)
                return
            if end.finish_reason == "cancelled":
                self._idle_since = time.monotonic()
                self._events.publish("context.gave_way", tokens=work.prompt_done, **facts)
                return
            self._settled.add((record.tag, row.name))  # also if this fails: not again and again
            await self._keeper.unlink(await self._sessions.adopt(row, record.tag))
            self._events.publish(
                "context.computed",
                tokens=end.usage.prompt_tokens,
                computed_tokens=end.usage.computed_tokens,
                seconds=end.timing.total_s,
                **facts,
            )
        finally:
            self._is_looking = False


def _not_computed(error: HotseatError) -> None:
    log.warning("contexts.not_computed", reason=error.message)
