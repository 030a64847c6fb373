"""`count`: how many tokens a request would have, and how many are stored. Changes nothing."""

from typing import Literal

from hotseat.protocol.link_orders import TokensInput, WholeInput
from hotseat.protocol.messages import Count, Generate
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import block_chain, unpack_tokens
from hotseat.protocol.views import CountView
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES, most_with_kv, shared_prefix
from hotseat.supervisor.conversation.intake import check_generate, plan_turn
from hotseat.supervisor.conversation.prompt_size import longest_stored
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.session_store import SessionStore, as_stored, clock_of
from hotseat.supervisor.seat.prompt_counter import PromptCounter
from hotseat.supervisor.seat.seat import Seat


class Counter:
    """Counts prompts, and how much of one is stored."""

    def __init__(
        self,
        sessions: SessionStore,
        catalogue: Catalogue,
        planner: Planner,
        seat: Seat,
        prompts: PromptCounter,
    ) -> None:
        self._sessions = sessions
        self._catalogue = catalogue
        self._planner = planner
        self._seat = seat
        self._prompts = prompts

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
            template_args=message.template_args,
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
            counted_by, answer = await self._prompts.ask(
                record, intake, clock_of(row), wants_text=message.render
            )
            ids, text = answer.tokens, answer.text if message.render else None
        tokens = len(ids) // TOKEN_BYTES
        plan = self._planner.plan_asked(record)
        kv_fit = plan.longest_tokens if plan.fits else None
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
        beat = self._seat.beat
        is_seated = self._prompts.is_seated(record)
        is_here = is_seated and beat is not None and session in beat.live_sessions
        row = await self._sessions.load(record.name, session) if session and is_here else None
        if row is not None:
            held = most_with_kv(len(row.tokens) // TOKEN_BYTES, closed=row.closed)
            stored = max(stored, min(shared_prefix(row.tokens, ids), held, len(tokens)))
        return stored

    async def count_at_hand(self, message: Count) -> CountView | None:
        """The figures of a prompt if the tokenizer is in memory somewhere; else None."""
        record = self._planner.registry.get(message.model)
        return await self.count(message) if self._prompts.is_at_hand(record) else None
