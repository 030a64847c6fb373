"""Asks a worker how many tokens a prompt has: the seated one for its model, else the standby."""

import asyncio
from typing import Final, Literal

from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import CountPrompt, Start
from hotseat.protocol.link_reports import Counted
from hotseat.protocol.messages import Generate, Sampling
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.standby import Standby

ANSWER_S: Final = 25.0
"""Loading a large tokenizer takes seconds; the client gives up at 30."""
STANDBY_S: Final = 10.0
_POLL_S: Final = 0.05
By = Literal["worker", "standby"]


class PromptCounter:
    """One per daemon. Raises `not_seated` when nobody can count now."""

    def __init__(self, seat: Seat, standby: Standby) -> None:
        self._seat = seat
        self._standby = standby
        self._asked: dict[str, asyncio.Future[Counted]] = {}
        self._numbers = 0

    def take(self, answer: Counted) -> None:
        """A worker counted."""
        waiting = self._asked.pop(answer.request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def is_seated(self, record: ModelRecord) -> bool:
        """True when the worker has this very model."""
        loaded = self._seat.record
        is_ready = self._seat.state.phase is Phase.READY
        return is_ready and loaded is not None and loaded.tag == record.tag

    def is_at_hand(self, record: ModelRecord) -> bool:
        """True when the tokenizer is in memory somewhere."""
        return self.is_seated(record) or self._standby.has_prepared(record.name)

    @property
    def has_standby(self) -> bool:
        """True when a model that is not seated can be counted for at once."""
        return self._standby.is_greeted

    async def ask(
        self,
        record: ModelRecord,
        intake: Intake,
        clock: float,
        *,
        wants_text: bool,
        form: Generate | None = None,
    ) -> tuple[By, Counted]:
        """Who counted, and what. Raises the worker's own error for a prompt that cannot be.

        With `form` also for an answer of the form that it asks for.
        """
        start = self._start(intake, clock)
        if form is not None:
            start = structs.replace(
                start,
                tool_choice=form.tool_choice or "auto",
                response_format=form.response_format,
            )
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

    async def _send(self, record: ModelRecord, order: CountPrompt) -> By:
        """To the worker of the model, else to the standby, waiting a while for one to come."""
        until = asyncio.get_running_loop().time() + STANDBY_S
        while True:
            if self.is_seated(record) and self._seat.send(order):
                return "worker"
            if self._standby.send(order):
                return "standby"
            if not self._standby.enabled:
                raise self._nobody(record, "there is no standby ([seat] standby is off)")
            if asyncio.get_running_loop().time() >= until:
                raise self._nobody(record, "the standby is not up")
            await asyncio.sleep(_POLL_S)

    def _nobody(self, record: ModelRecord, why: str) -> HotseatError:
        return HotseatError(
            "not_seated",
            f"{record.name} is not seated and nobody else can count for it: {why}; seat it, or "
            "ask again",
            seated=self._seat.state.model,
            model=record.name,
        )
