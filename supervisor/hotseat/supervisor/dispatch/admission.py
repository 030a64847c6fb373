"""Whether a request may run at all, and on which model: aliases, policies, plans, short memory.

Decides nothing about when. Must not know sessions or sockets.
"""

import asyncio
import time
from typing import Final, Protocol

from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName
from hotseat.protocol.messages import Generate, Swap
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.streamed_contexts import is_too_slow
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.rules.swap_rights import check_swap_allowed
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.long_contexts import context_speed
from hotseat.supervisor.models.rules.residence import is_slow, streamed_of
from hotseat.supervisor.models.short_memory import MemoryHolders
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import LimitSettings, SwapPolicy

UNLOADED_S: Final = 10.0
"""How long after another program let go of a model its memory may be on the way."""
POLL_S: Final = 0.2
_STRICTNESS: Final[tuple[SwapPolicy, ...]] = ("auto", "wait", "never")


class Shortage(Protocol):
    """How short memory is."""

    def refuse_new(self) -> None:
        """Raises `HotseatError` (memory_pressure) while nothing new may begin."""

    def is_short_for(self, running: int) -> bool:
        """True when memory allows no further request beside so many."""


class Bars(Protocol):
    """Which models only a person may seat."""

    def refuse(self, model: str) -> None:
        """Raises `HotseatError` (model_quarantined) for one of them."""


class Admission:
    """Answers with the record of a model, or raises the typed refusal."""

    def __init__(
        self,
        planner: Planner,
        seat: Seat,
        releases: Releases,
        memory: Shortage,
        bars: Bars,
        holders: MemoryHolders,
    ) -> None:
        self._planner = planner
        self._seat = seat
        self._releases = releases
        self._memory = memory
        self._bars = bars
        self._holders = holders

    @property
    def limits(self) -> LimitSettings:
        """What clients may use up."""
        return self._planner.settings.limits

    def model(self, name: str, *, force: bool = False) -> ModelRecord:
        """The record of a model that can be seated; `force`: whatever other programs hold."""
        record = self._planner.registry.get(name)
        self._seat.code.refuse_replaced()
        self._memory.refuse_new()
        return self._planner.check(record, force=force)

    def begin(self, name: str, *, force: bool) -> None:
        """Raises what `model` raises; how a swap to this model begins now counts for its plan."""
        self._planner.begin(self.model(name, force=force), force=force)

    async def swap(self, message: Swap) -> ModelRecord:
        """The record of the model of a swap; other programs unload theirs first if it says so."""
        if message.unload_others:
            await self._make_room(message.model)
        return self.model(message.model, force=message.force)

    async def explained(self, error: HotseatError) -> HotseatError:
        """A refusal for lack of memory, with who holds it; any other error as it is."""
        return await self._holders.explained(error)

    def request(self, request: Generate) -> ModelRecord:
        """The record of the model a request names, if it may run at all."""
        self._memory.refuse_new()
        registry, seated = self._planner.registry, self._seat.seated
        name = registry.resolve(request.model)
        record = registry.get(name) if name == seated else self.model(name)
        released_s = self._releases.refuses(time.time())
        allowed = replace(request, swap=self._policy(request, record.name))
        check_swap_allowed(allowed, record.name, seated, released_s)
        return record

    def slow_speed(self, record: ModelRecord, prompt_tokens: int = 0) -> float | None:
        """Tokens a second of a model, and of so long a context, that the disk holds below 1.

        None of any other, and of a context that is refused for it.
        """
        speed = self._context_speed(record, prompt_tokens)
        if speed is not None:
            return round(speed, 3) if is_slow(speed) and not is_too_slow(speed) else None
        view = self.streamed(record)
        return view.tokens_per_s if view is not None and is_slow(view.tokens_per_s) else None

    def may_be_slow(self, record: ModelRecord, most_tokens: int) -> bool:
        """Whether the length of a prompt, so many at most, decides if it is told to be slow."""
        return is_slow(self._context_speed(record, most_tokens))

    @property
    def is_seat_slow(self) -> bool:
        """Whether the disk holds the seated model below 1 token a second."""
        record = self._seat.record
        return record is not None and self._seat.admits and self.slow_speed(record) is not None

    def streamed(self, record: ModelRecord) -> StreamedView | None:
        """What of a model is in memory when it has the seat; None where all of it is."""
        if record.name != self._seat.seated:
            return streamed_of(record, self._planner.plan_asked(record))
        planned = self._seat.streamed
        return None if planned is None else self._planner.streamed_now(planned)

    def _context_speed(self, record: ModelRecord, tokens: int) -> float | None:
        """Of a context of so many tokens that passes through memory."""
        seat = self._seat
        if not tokens:
            return None
        if record.name != seat.seated:
            plan = self._planner.plan_asked(record)
            return context_speed(record, tokens, plan.kv_budget_bytes, plan.contexts)
        reading = None if seat.contexts is None else self._planner.reading_now(seat.contexts)
        return context_speed(record, tokens, seat.kv_budget_bytes or 0, reading)

    def is_short_for(self, running: int) -> bool:
        """True when memory allows no further request beside so many."""
        return self._memory.is_short_for(running)

    def refuse_barred(self, model: str) -> None:
        """Raises `HotseatError` (model_quarantined) for a model that only a person may seat."""
        self._bars.refuse(model)

    def persists(self, model: ModelName) -> bool:
        """False for a model whose contexts stay off the disk."""
        return self._planner.settings.model(model).persist

    async def _make_room(self, name: str) -> None:
        """Memory of another program's model is back a moment after the program let go of it."""
        if not self._lacks_room(name) or not await self._holders.unload_others():
            return
        for _ in range(round(UNLOADED_S / POLL_S)):
            if not self._lacks_room(name):
                return
            await asyncio.sleep(POLL_S)

    def _lacks_room(self, name: str) -> bool:
        """To be whole: beside the others it may be read in part."""
        try:
            record = self._planner.check(self._planner.registry.get(name))
            return self._planner.held_beside(record) > 0
        except HotseatError as error:
            return error.code == "memory_pressure"

    def _policy(self, request: Generate, model: ModelName) -> SwapPolicy:
        """The stricter of what the request and the settings of its model say."""
        chosen = self._planner.settings.model(model).swap
        return max(request.swap, chosen, key=_STRICTNESS.index)
