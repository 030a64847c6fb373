"""Counting before a swap is a courtesy: where nobody can, the request is not refused for it."""

from types import SimpleNamespace

from tests.support.models.records import model_record

from hotseat.protocol.link import TextInput
from hotseat.supervisor.conversation.history import History
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.seat.rules.states import Phase


async def test_prompt_that_nobody_can_count_is_left_to_the_worker():
    standby = SimpleNamespace(is_greeted=True, enabled=False, send=lambda _order: False)
    state = SimpleNamespace(phase=Phase.LOADING, model="other")
    plan = SimpleNamespace(max_context_tokens=100)
    counter = Counter(
        sessions=None,
        catalogue=None,
        planner=SimpleNamespace(plan=lambda _record, **_options: plan),
        runner=SimpleNamespace(standby=standby, state=state, record=None, beat=None),
        own_footprint=lambda: 0,
    )
    long = Intake(
        context=b"", hint=b"", input=TextInput(text="word " * 200), base=History(), added=()
    )
    await counter.check_fits(model_record(), long, 0.0)
