"""Counting before a swap is a courtesy: where nobody can, the request is not refused for it."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_orders import TextInput, TokensInput
from hotseat.protocol.link_reports import Counted
from hotseat.protocol.messages import FunctionSpec, Generate, ResponseFormat, Tool
from hotseat.supervisor.conversation.framing import Framing
from hotseat.supervisor.conversation.history import History
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.seat.prompt_counter import PromptCounter
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.seat import Seat

FORM = ResponseFormat(type="json_schema", schema={"type": "integer"})


def planner():
    """One whose plans hold a hundred tokens."""
    plan = SimpleNamespace(fits=True, max_context_tokens=100, longest_tokens=100)
    return SimpleNamespace(plan_asked=lambda _record: plan, measure_again=lambda: None)


async def test_room_that_others_took_just_now_refuses_no_prompt_for_good():
    squeezed = SimpleNamespace(fits=False, max_context_tokens=0, longest_tokens=0)
    roomy = planner().plan_asked(None)
    changing = SimpleNamespace(
        plan_asked=lambda _record: squeezed,
        plan=lambda _record, **_how: roomy,
        measure_again=lambda: None,
    )
    fits = PromptFits(changing, PromptCounter(Seat(), None), speeds())
    for tokens, is_refused in ((99, False), (100, True)):
        given = Intake(
            context=b"",
            hint=b"",
            input=TokensInput(tokens=bytes(4 * tokens)),
            base=History(),
            added=(),
        )
        ask = fits.check(
            model_record(), given, 0.0, Generate(model="a"), persists=True, is_worker_free=True
        )
        if is_refused:
            with pytest.raises(HotseatError, match="has 100 tokens"):
                await ask
        else:
            assert await ask == tokens


def speeds(slow_from=None):
    """A disk by which prompts of so many tokens or more may be slow."""
    return SimpleNamespace(
        may_be_slow=lambda _record, tokens: slow_from is not None and tokens >= slow_from
    )


async def test_prompt_that_nobody_can_count_is_left_to_the_worker():
    standby = SimpleNamespace(is_greeted=True, enabled=False, send=lambda _order: False)
    fits = PromptFits(planner(), PromptCounter(Seat(), standby), speeds())
    long = Intake(
        context=b"", hint=b"", input=TextInput(text="word " * 200), base=History(), added=()
    )
    await fits.check(
        model_record(), long, 0.0, Generate(model="a"), persists=True, is_worker_free=True
    )


@pytest.mark.parametrize(
    ("request_", "is_asked"),
    [
        (Generate(model="a"), False),
        (Generate(model="a", response_format=ResponseFormat(type="json_object")), False),
        (Generate(model="a", response_format=FORM), True),
        (Generate(model="a", tool_choice="required"), True),
        (Generate(model="a", tool_choice="none"), False),
    ],
)
async def test_standby_is_asked_for_forms_with_a_schema_alone(request_, is_asked):
    asked = []
    counter = PromptCounter(Seat(), None)

    def answer(order):
        asked.append(order.start)
        counter.take(Counted(request=order.start.request, tokens=b"1234"))
        return True

    counter._standby = SimpleNamespace(is_greeted=True, enabled=True, send=answer)
    fits = PromptFits(planner(), counter, speeds())
    given = Intake(
        context=b"",
        hint=b"",
        input=TextInput(text="word"),
        base=History(),
        added=(),
        framing=Framing(tools=(Tool(function=FunctionSpec(name="look")),)),
    )
    await fits.check(model_record(), given, 0.0, request_, persists=True, is_worker_free=True)
    assert bool(asked) is is_asked
    assert [start.response_format for start in asked] == [request_.response_format] * is_asked


async def test_form_that_the_standby_refuses_is_refused():
    counter = PromptCounter(Seat(), None)

    def answer(order):
        refused = Counted(request=order.start.request, code="invalid_request", message="at odds")
        counter.take(refused)
        return True

    counter._standby = SimpleNamespace(is_greeted=True, enabled=True, send=answer)
    fits = PromptFits(planner(), counter, speeds())
    short = Intake(context=b"", hint=b"", input=TextInput(text="w"), base=History(), added=())
    given = Generate(model="a", response_format=FORM)
    with pytest.raises(HotseatError, match="at odds"):
        await fits.check(model_record(), short, 0.0, given, persists=True, is_worker_free=True)


@pytest.mark.parametrize(
    ("slow_from", "is_free", "persists", "is_counted"),
    [
        (100, True, True, True),
        (None, True, True, False),
        (500, True, True, False),
        (100, False, True, False),
        (100, True, False, False),
    ],
)
async def test_worker_at_rest_counts_what_may_be_slow_by_its_length(
    slow_from, is_free, persists, is_counted
):
    """A busy one would keep the answer for as long as a step, which is slow by then."""
    seat, record = Seat(), model_record()
    seat.state = SeatState(phase=Phase.READY)
    seat.record = record
    counter = PromptCounter(seat, None)

    def answer(order):
        counter.take(Counted(request=order.start.request, tokens=b"1234" * 40))
        return True

    seat.link = SimpleNamespace(send=answer)
    fits = PromptFits(planner(), counter, speeds(slow_from))
    given = Intake(
        context=b"", hint=b"", input=TextInput(text="word " * 30), base=History(), added=()
    )
    ids = Intake(
        context=b"1234", hint=b"", input=TokensInput(tokens=b"1234" * 9), base=History(), added=()
    )
    for intake, tokens in ((given, 40 if is_counted else None), (ids, 10)):
        counted = await fits.check(
            record,
            intake,
            0.0,
            Generate(model="a"),
            persists=persists,
            is_worker_free=is_free,
        )
        assert counted == tokens
