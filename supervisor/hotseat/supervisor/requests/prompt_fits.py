"""Refuses early what a model that is not seated cannot take: not after the swap.

Prompts that are too long, and forms of answers that no grammar can keep. Has prompts counted whose
length says how slow they are.
"""

from typing import Protocol

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_orders import TokensInput
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES
from hotseat.supervisor.conversation.framing import has_schema
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.conversation.prompt_size import most_tokens
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.prompt_counter import PromptCounter


class Speeds(Protocol):
    """What the disk allows."""

    def may_be_slow(self, record: ModelRecord, most_tokens: int) -> bool:
        """Whether the length of a prompt, so many at most, decides if it is told to be slow."""


class PromptFits:
    """Has the standby look at prompts that could be too long, and at forms with a schema."""

    def __init__(self, planner: Planner, prompts: PromptCounter, speeds: Speeds) -> None:
        self._planner = planner
        self._prompts = prompts
        self._speeds = speeds

    async def check(
        self,
        record: ModelRecord,
        intake: Intake,
        clock: float,
        request: Generate,
        *,
        persists: bool,
        is_worker_free: bool,
    ) -> int | None:
        """Tokens of the prompt, if they were counted. Raises context_overflow, or what is wrong.

        `persists`: its context may reach the disk. A worker that is not free would answer between
        two steps, which may be long ones.

        Without a standby nobody can say: the worker will.
        """
        tokens = most_tokens(intake)
        counted = tokens if isinstance(intake.input, TokensInput) else None
        is_told = counted is None and persists and self._speeds.may_be_slow(record, tokens)
        if self._prompts.is_seated(record):
            if not (is_told and is_worker_free):
                return counted
            return await self._counted(record, intake, clock, request)
        self._planner.measure_again()
        plan = self._planner.plan_asked(record)
        if not plan.fits:  # others took room since it was asked for: the gate waits for that
            plan = self._planner.plan(record, in_any_case=True)
        # What must not reach the disk cannot be read from there.
        fit = plan.longest_tokens if persists else plan.max_context_tokens
        limit = min(record.context_tokens, fit)
        has_form = has_schema(request, intake.framing.tools)
        if counted is None and (is_told or has_form or tokens >= limit):
            counted = await self._counted(record, intake, clock, request)
            if counted is None:
                return None
            tokens = counted
        if tokens >= limit:
            raise HotseatError(
                "context_overflow",
                f"the prompt has {tokens} tokens; the context takes {record.context_tokens} and "
                f"the KV budget {fit}, one of them for the answer; send less",
                prompt_tokens=tokens,
                context_tokens=record.context_tokens,
                kv_fit_tokens=fit,
            )
        return counted

    async def _counted(
        self, record: ModelRecord, intake: Intake, clock: float, request: Generate
    ) -> int | None:
        """Tokens of the prompt; None if nobody can count just now."""
        if not (self._prompts.is_seated(record) or self._prompts.has_standby):
            return None
        try:
            _, answer = await self._prompts.ask(
                record, intake, clock, wants_text=False, form=request
            )
        except HotseatError as error:
            if error.code == "not_seated":
                return None
            raise
        return len(answer.tokens) // TOKEN_BYTES
