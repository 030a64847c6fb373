"""Counting before a swap is a courtesy: where nobody can, the request is not refused for it."""

from types import SimpleNamespace

from tests.support.models.records import model_record

from hotseat.protocol.link_orders import TextInput
from hotseat.supervisor.conversation.history import History
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.seat.prompt_counter import PromptCounter
from hotseat.supervisor.seat.seat import Seat


async def test_prompt_that_nobody_can_count_is_left_to_the_worker():
    standby = SimpleNamespace(is_greeted=True, enabled=False, send=lambda _order: False)
    plan = SimpleNamespace(max_context_tokens=100)
    fits = PromptFits(SimpleNamespace(plan=lambda _record: plan), PromptCounter(Seat(), standby))
    long = Intake(
        context=b"", hint=b"", input=TextInput(text="word " * 200), base=History(), added=()
    )
    await fits.check(model_record(), long, 0.0)
