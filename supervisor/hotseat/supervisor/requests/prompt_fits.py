"""Refuses early what is too long for a model that is not seated: not after the swap."""

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_orders import TokensInput
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.conversation.prompt_size import most_tokens
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.prompt_counter import PromptCounter


class PromptFits:
    """Looks at sizes first and has only those prompts counted that could be too long."""

    def __init__(self, planner: Planner, prompts: PromptCounter) -> None:
        self._planner = planner
        self._prompts = prompts

    async def check(self, record: ModelRecord, intake: Intake, clock: float) -> None:
        """Raises context_overflow. Without a standby nobody can say: the worker will."""
        if self._prompts.is_seated(record):
            return
        plan = self._planner.plan(record)
        limit = min(record.context_tokens, plan.max_context_tokens)
        tokens = most_tokens(intake)
        if tokens < limit:
            return
        if not isinstance(intake.input, TokensInput):
            if not self._prompts.has_standby:
                return
            try:
                _, answer = await self._prompts.ask(record, intake, clock, wants_text=False)
            except HotseatError as error:
                if error.code == "not_seated":
                    return  # nobody can count just now
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
