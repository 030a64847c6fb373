"""`quote` and `why`: a price before, a cause after. Reads only."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Count, Message, Quote
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import Event
from hotseat.protocol.views import QuoteView, WhyView
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import most_with_kv
from hotseat.supervisor.conversation.history import decode_history
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.rules.swap_rights import seat_released
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.scheduling.learned_costs import estimate_tokens, seconds_for
from hotseat.supervisor.seat.rules.table import quarantine_of
from hotseat.supervisor.seat.seat import Seat

JOURNAL_BACK: Final = 4000


class QuoteDesk:
    """Prices what could happen by what did."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        sessions: SessionStore,
        planner: Planner,
        seat: Seat,
        admission: Admission,
        dispatcher: Dispatcher,
        releases: Releases,
        counter: Counter,
    ) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._planner = planner
        self._seat = seat
        self._admission = admission
        self._dispatcher = dispatcher
        self._releases = releases
        self._counter = counter

    async def quote(self, message: Quote) -> list[QuoteView]:
        """One price per model, in the order asked for."""
        if message.session is not None and message.messages is not None:
            raise HotseatError("invalid_request", "give a session or messages, not both")
        return [await self._price(name, message) for name in message.models]

    async def _price(self, name: str, message: Quote) -> QuoteView:
        now = time.monotonic()
        misses = quarantine_of(self._seat.state, name, now)
        if misses is not None:
            waits_s = misses.until - now
            text = f"{name} failed to load twice in a row; it is tried again in {waits_s:.0f} s"
            return QuoteView(model=name, fits=False, reason=text)
        try:
            seated = self._seat.seated == name
            held_s = None if seated else self._releases.refuses(time.time())
            if held_s is not None:
                raise seat_released(name, held_s)
            registry = self._planner.registry
            record = registry.get(name) if seated else self._admission.model(name)
        except HotseatError as error:
            return QuoteView(model=name, fits=False, reason=error.message)
        tokens, stored, exact = await self._tokens(record, message)
        known = self._dispatcher.costs
        costs = known.of(name)
        on_disk = 0 if seated and self._is_live(message.session) else stored
        return QuoteView(
            model=name,
            fits=True,
            seated=seated,
            queue_s=round(self._dispatcher.wait_for_seat_s(name), 3),
            swap_s=0.0 if seated else _rounded(known.swap_to(name)),
            restore_s=_rounded(seconds_for(on_disk, costs.restore_tokens_per_s)),
            prefill_s=_rounded(seconds_for(tokens - stored, costs.prefill_tokens_per_s)),
            prompt_tokens=tokens,
            stored_tokens=stored,
            exact=exact,
            streamed=self._admission.streamed(record),
        )

    def _is_live(self, session: str | None) -> bool:
        """True when the seated worker holds the context in memory."""
        beat = self._seat.beat
        return beat is not None and session in beat.live_sessions

    async def _tokens(self, record: ModelRecord, message: Quote) -> tuple[int, int, bool]:
        """Prompt tokens, how many of them are stored, and whether the first is counted."""
        if message.messages is not None:
            return await self._tokens_of(record, message.messages)
        if message.session is None:
            return 0, 0, True
        row = await self._sessions.load(record.name, message.session)
        if row is None:
            return 0, 0, True
        history = decode_history(row.messages)
        if row.stale and not history.raw:  # nothing of it is rendered yet
            return await self._tokens_of(record, history.messages)
        held = len(row.tokens) // 4
        if row.tag != record.tag:
            return held, 0, True
        stored = await self._counter.stored_tokens(record, row.tokens, message.session)
        # A lookup spares the last token, which a closed turn has KV of.
        most = most_with_kv(held, closed=row.closed)
        return held, most if stored >= held - 1 else stored, True

    async def _tokens_of(
        self, record: ModelRecord, messages: Sequence[Message]
    ) -> tuple[int, int, bool]:
        try:
            asked = Count(model=record.name, messages=tuple(messages))
            counted = await self._counter.count_at_hand(asked)
        except HotseatError:
            counted = None  # what is wrong with them is told when they are sent
        if counted is not None:
            return counted.tokens, counted.stored_tokens, True
        return estimate_tokens(sum(_characters(entry) for entry in messages)), 0, False

    async def why(self, limit: int) -> list[WhyView]:
        """The last swaps, newest first."""
        last = await self._catalogue.last_seq()
        events = await self._catalogue.journal_since(max(0, last - JOURNAL_BACK), JOURNAL_BACK)
        return explain_swaps(events)[-limit:][::-1]


def explain_swaps(events: Iterable[Event]) -> list[WhyView]:
    """Swaps and releases that ended, oldest first; what failed is timed from its start."""
    explained: list[WhyView] = []
    started: dict[int, Event] = {}
    for event in events:
        match event.name:
            case "swap.started":
                started[event.facts["swap"]] = event
            case "swap.finished" | "swap.failed" | "seat.emptied":
                start = started.pop(event.facts.get("swap", 0), None)
                explained.append(_explained(event, start))
    return explained


def _explained(event: Event, start: Event | None) -> WhyView:
    facts = event.facts
    cause = facts.get("cause") or {}
    if event.name == "swap.failed" and start is not None:
        facts = facts | {"origin": start.facts.get("origin"), "total_s": event.at - start.at}
    return WhyView(
        at=event.at,
        outcome="failed" if event.name == "swap.failed" else "finished",
        origin=facts.get("from") or facts.get("origin") or facts.get("back_to"),
        target=facts.get("to") or facts.get("target"),
        client=str(cause.get("client", "")),
        request_id=str(cause.get("request_id", "")),
        model_asked=str(cause.get("model_asked", "")),
        agent=str(cause.get("agent", "")),
        total_s=_rounded(facts.get("total_s")),
        bytes_written=facts.get("bytes_written"),
        sessions_checkpointed=facts.get("sessions_checkpointed"),
        reason=str(facts.get("reason", "")),
    )


def _characters(message: Message) -> int:
    if isinstance(message.content, str):
        return len(message.content)
    return sum(len(part.text or "") for part in message.content or ())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
