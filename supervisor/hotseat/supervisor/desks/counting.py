"""`count`: how many tokens a request would have, asked of whoever holds the tokenizer.

The seated worker answers for its model, the standby for any other. Changes nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import Counted, CountPrompt, Start, TokensInput, WholeInput
from hotseat.protocol.messages import Count, Generate, Sampling
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import block_chain, unpack_tokens
from hotseat.protocol.views import CountView
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES, most_with_kv, shared_prefix
from hotseat.supervisor.conversation.intake import Intake, check_generate, plan_turn
from hotseat.supervisor.conversation.prompt_size import longest_stored, most_tokens
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.session_store import SessionStore, as_stored, clock_of
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.runner import SeatRunner

ANSWER_S: Final = 25.0
"""Loading a large tokenizer takes seconds; the client gives up at 30."""
STANDBY_S: Final = 10.0
_POLL_S: Final = 0.05
By = Literal["worker", "standby"]


class Counter:
    """Counts prompts. `own_footprint` is what the seated worker would give back."""

    def __init__(
        self,
        *,
        sessions: SessionStore,
        catalogue: Catalogue,
        planner: Planner,
        runner: SeatRunner,
        own_footprint: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._catalogue = catalogue
        self._planner = planner
        self._runner = runner
        self._own_footprint = own_footprint
        self._asked: dict[str, asyncio.Future[Counted]] = {}
        self._numbers = 0
        runner.standby.on_counted = self.take

    def take(self, answer: Counted) -> None:
        """A worker counted."""
        waiting = self._asked.pop(answer.request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def count(self, message: Count) -> CountView:
        """The figures of a prompt. Raises not_seated when nobody can count now."""
        record = self._planner.registry.get(message.model)
        request = Generate(
            model=message.model,
            messages=message.messages,
            prompt=message.prompt,
            tokens=message.tokens,
            session=message.session,
            append=message.append,
            tools=message.tools,
        )
        check_generate(request)
        row = None
        if request.session is not None:
            row = await self._sessions.load(record.name, request.session)
        intake = plan_turn(request, record, as_stored(row, record))
        counted_by: Literal["worker", "standby", "ids"] = "ids"
        text = None
        if isinstance(intake.input, TokensInput) and not message.render:
            ids = intake.context + intake.input.tokens
        else:
            start = self._start(intake, clock_of(row))
            counted_by, answer = await self._ask(record, start, wants_text=message.render)
            ids, text = answer.tokens, answer.text if message.render else None
        tokens = len(ids) // TOKEN_BYTES
        plan = self._planner.plan(record, own_footprint_bytes=self._own_footprint())
        kv_fit = plan.max_context_tokens if plan.fits else None
        return CountView(
            model=record.name,
            tokens=tokens,
            context_tokens=record.context_tokens,
            fits=tokens < min(record.context_tokens, kv_fit or record.context_tokens),
            kv_fit_tokens=kv_fit,
            stored_tokens=await self.stored_tokens(record, ids, request.session),
            rendered=isinstance(intake.input, WholeInput),
            counted_by=counted_by,
            text=text,
        )

    async def stored_tokens(self, record: ModelRecord, ids: bytes, session: str | None) -> int:
        """How many leading tokens of a prompt need no computing; reading changes nothing."""
        tokens = unpack_tokens(ids)[:-1]
        chain = block_chain(record.tag, tokens)
        found = await self._catalogue.stored_under(record.tag, chain)
        stored = longest_stored(record, tokens, chain, found.count, found.tails)
        beat = self._runner.beat
        is_here = self._is_seated(record) and beat is not None and session in beat.live_sessions
        row = await self._sessions.load(record.name, session) if session and is_here else None
        if row is not None:
            held = most_with_kv(len(row.tokens) // TOKEN_BYTES, closed=row.closed)
            stored = max(stored, min(shared_prefix(row.tokens, ids), held, len(tokens)))
        return stored

    async def count_at_hand(self, message: Count) -> CountView | None:
        """The figures of a prompt if the tokenizer is in memory somewhere; else None."""
        record = self._planner.registry.get(message.model)
        if self._is_seated(record) or self._runner.standby.has_prepared(record.name):
            return await self.count(message)
        return None

    async def check_fits(self, record: ModelRecord, intake: Intake, clock: float) -> None:
        """Raises context_overflow for a prompt that is too long for a model that is not seated.

        Only one that could be too long is counted, and only if the standby is there: the worker
        refuses it otherwise, after the swap.
        """
        if self._is_seated(record):
            return
        plan = self._planner.plan(record, own_footprint_bytes=self._own_footprint())
        limit = min(record.context_tokens, plan.max_context_tokens)
        tokens = most_tokens(intake)
        if tokens < limit:
            return
        if not isinstance(intake.input, TokensInput):
            if not self._runner.standby.is_greeted:
                return
            try:
                _, answer = await self._ask(record, self._start(intake, clock), wants_text=False)
            except HotseatError as error:
                if error.code == "not_seated":
                    return  # nobody can count just now: the worker will
                raise
            tokens = len(answer.tokens) // TOKEN_BYTES
        if tokens >= limit:
            raise HotseatError(
                "context_overflow",
                f"the prompt has {tokens} tokens; the context takes {record.context_tokens} and "
                f"the KV budget {plan.max_context_tokens}, one of them for the answer; send less",
                prompt_tokens=tokens,
                context_tokens=record.context_tokens,
                kv_fit_tokens=plan.max_context_tokens,
            )

    def _is_seated(self, record: ModelRecord) -> bool:
        runner = self._runner
        is_ready = runner.state.phase is Phase.READY and runner.record is not None
        return is_ready and runner.record is not None and runner.record.tag == record.tag

    def _start(self, intake: Intake, clock: float) -> Start:
        self._numbers += 1
        return Start(
            request=RequestKey(f"count:{self._numbers}"),
            session=None,
            context=intake.context,
            hint=intake.hint,
            input=intake.input,
            clock=clock,
            sampling=Sampling(),
            seed=0,
            tools=intake.framing.tools,
            template_args=intake.framing.template_args,
        )

    async def _ask(
        self, record: ModelRecord, start: Start, *, wants_text: bool
    ) -> tuple[By, Counted]:
        order = CountPrompt(record=record, start=start, wants_text=wants_text)
        answer: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        self._asked[start.request] = answer
        try:
            asked = await self._send(record, order)
            counted = await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            raise self._nobody(record, f"no answer within {ANSWER_S:.0f} s") from None
        finally:
            self._asked.pop(start.request, None)
        if counted.code:
            raise HotseatError(counted.code, counted.message, **counted.facts)
        return asked, counted

    async def _send(self, record: ModelRecord, order: CountPrompt) -> By:
        """To the worker of the model, else to the standby, waiting a while for one to come."""
        until = asyncio.get_running_loop().time() + STANDBY_S
        while True:
            if self._is_seated(record) and self._runner.send(order):
                return "worker"
            if self._runner.standby.send(order):
                return "standby"
            if not self._runner.standby.enabled:
                raise self._nobody(record, "there is no standby ([seat] standby is off)")
            if asyncio.get_running_loop().time() >= until:
                raise self._nobody(record, "the standby is not up")
            await asyncio.sleep(_POLL_S)

    def _nobody(self, record: ModelRecord, why: str) -> HotseatError:
        seated = self._runner.state.model
        return HotseatError(
            "not_seated",
            f"{record.name} is not seated and nobody else can count for it: {why}; seat it, or "
            "ask again",
            seated=seated,
            model=record.name,
        )
