"""Tools, reasoning and JSON through the real engine; grammars make random weights write them."""

import json

import pytest
from msgspec.structs import replace
from tests.support.engine.engine_harness import FakeSupervisor
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import Resume, Suspend, WholeInput
from hotseat.protocol.link_reports import Refused, Suspended
from hotseat.protocol.messages import (
    FunctionSpec,
    Message,
    NamedTool,
    ResponseFormat,
    Sampling,
    Tool,
)
from hotseat.protocol.parts import collect_parts, text_part
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.batch import form

ASK = WholeInput(messages=(Message(role="user", content="What is the weather in Lima?"),))
WEATHER = Tool(
    function=FunctionSpec(
        name="get_weather",
        description="Weather of a place.",
        parameters={
            "type": "object",
            "properties": {
                "city": {"enum": ["Rome", "Lima"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 14},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    )
)
TIME = Tool(function=FunctionSpec(name="get_time"))
REPORT = ResponseFormat(
    type="json_schema",
    schema={
        "type": "object",
        "properties": {
            "sky": {"enum": ["clear", "cloudy", "overcast with some rain"]},
            "highs": {
                "type": "array",
                "items": {"type": "integer", "minimum": 10, "maximum": 99},
                "minItems": 12,
                "maxItems": 12,
            },
        },
        "required": ["sky", "highs"],
        "additionalProperties": False,
    },
)
THINK, END_THINK, CALL_MARK = 3, 4, 510
END = 2


@pytest.fixture(scope="module")
def seats(tmp_path_factory):
    """A seated engine per template, made when first asked for."""
    home = tmp_path_factory.mktemp("forms")
    made = {}

    def seat(template):
        if template not in made:
            record = register_tiny(home, template, "llama", template=template, ends=True)
            made[template] = FakeSupervisor(record, home / "kv" / template)
            made[template].seat()
        return made[template]

    yield seat
    for supervisor in made.values():
        supervisor.unseat()


def parts_of(outcome):
    return [part for one in outcome.emitted for part in (one.parts or text_part(one.text))]


def ask(supervisor, **options):
    options.setdefault("max_tokens", 200)
    outcome = supervisor.turn(ASK, **options)
    return outcome, collect_parts(parts_of(outcome))


def test_named_tool_is_called_with_arguments_of_its_schema(seats):
    outcome, said = ask(
        seats("agent"), tools=(TIME, WEATHER), tool_choice=NamedTool(name="get_weather")
    )
    assert outcome.finished.finish_reason == "tool_calls"
    (call,) = said.tool_calls
    assert call.name == "get_weather"
    arguments = json.loads(call.arguments)
    assert arguments["city"] in ("Rome", "Lima") and 1 <= arguments["days"] <= 14


def test_required_choice_calls_some_tool(seats):
    # The bias ends the answer as soon as the grammar lets it end.
    sampling = Sampling(logit_bias=((END, 100.0), (THINK, -100.0)))
    outcome, said = ask(seats("agent"), tools=(WEATHER,), tool_choice="required", sampling=sampling)
    assert outcome.finished.finish_reason == "tool_calls"
    assert [call.name for call in said.tool_calls] == ["get_weather"]


def test_answer_follows_its_json_schema(seats):
    outcome, said = ask(seats("chatml"), response_format=REPORT)
    assert outcome.finished.finish_reason == "stop"
    assert len(json.loads(said.text)["highs"]) == 12


def test_json_object_begins_as_an_object_does(seats):
    _, said = ask(
        seats("chatml"), response_format=ResponseFormat(type="json_object"), max_tokens=12
    )
    assert said.text.lstrip().startswith("{")


def test_form_holds_under_a_drawn_answer_too(seats):
    sampling = Sampling(
        temperature=1.0, top_p=0.95, top_k=40, min_p=0.01, logit_bias=((THINK, -100.0),)
    )
    for seed in range(3):
        _, said = ask(seats("chatml"), response_format=REPORT, sampling=sampling, seed=seed)
        assert len(json.loads(said.text)["highs"]) == 12


def test_reasoning_comes_before_the_json_and_is_not_bound_by_it(seats):
    sampling = Sampling(temperature=1.0, logit_bias=((END_THINK, 6.0),))
    _, said = ask(seats("thinking"), response_format=REPORT, sampling=sampling, seed=5)
    assert said.reasoning
    assert len(json.loads(said.text)["highs"]) == 12


def test_reasoning_that_the_model_opens_itself_is_told_apart(seats):
    sampling = Sampling(temperature=1.0, logit_bias=((THINK, 100.0), (END_THINK, 6.0)))
    _, said = ask(seats("qwen"), response_format=REPORT, sampling=sampling, seed=5)
    assert said.reasoning and "<think>" not in said.reasoning + said.text


def test_template_argument_reaches_the_prompt(seats):
    plain = seats("qwen").turn(ASK, max_tokens=1)
    quiet = seats("qwen").turn(ASK, max_tokens=1, template_args={"enable_thinking": False})
    added = quiet.started.prompt[len(plain.started.prompt) :]
    assert quiet.started.prompt.startswith(plain.started.prompt)
    assert added.startswith(pack_tokens([THINK]))


def test_tools_reach_the_prompt(seats):
    plain = seats("agent").turn(ASK, max_tokens=1)
    tooled = seats("agent").turn(ASK, max_tokens=1, tools=(WEATHER,))
    assert tooled.started.prompt_tokens > plain.started.prompt_tokens + 20


def test_call_that_never_closes_is_text_with_its_error(seats):
    sampling = Sampling(logit_bias=((CALL_MARK, 100.0),))
    outcome, said = ask(seats("agent"), tools=(WEATHER,), sampling=sampling, max_tokens=4)
    assert said.text == "<tool_call>" * 4
    assert said.tool_parse_error
    assert outcome.finished.finish_reason == "length"


def test_choice_none_cannot_begin_a_call(seats):
    sampling = Sampling(logit_bias=((CALL_MARK, 100.0),))
    _, said = ask(
        seats("agent"), tools=(WEATHER,), tool_choice="none", sampling=sampling, max_tokens=8
    )
    assert said.text and "<tool_call>" not in said.text


@pytest.mark.parametrize(
    ("schema", "code"),
    [({"type": "strange"}, "invalid_request"), ({"not": {}}, "unsupported_feature")],
)
def test_schema_that_cannot_be_followed_is_refused_naming_it(seats, schema, code):
    supervisor = seats("chatml")
    wanted = ResponseFormat(type="json_schema", schema=schema)
    refused = supervisor.until(Refused, supervisor.start(ASK, response_format=wanted))
    assert (refused.code, refused.facts["field"]) == (code, "response_format.schema")


@pytest.mark.parametrize("after", [1, 9, 30])
@pytest.mark.parametrize("way", ["report", "call"])
def test_suspended_in_the_middle_the_form_goes_on_as_if_nothing_had_been(seats, after, way):
    supervisor = seats("agent")
    form = {"response_format": REPORT}
    if way == "call":
        form = {"tools": (WEATHER,), "tool_choice": NamedTool(name="get_weather")}
    form |= {"sampling": Sampling(temperature=0.8), "seed": 3, "max_tokens": 200}
    whole = supervisor.turn(ASK, **form)
    request = supervisor.start(ASK, **form)
    while len(supervisor.outcome(request).tokens) < after:
        supervisor.advance()
    supervisor.engine.handle(Suspend(request=request, hold_as=".held"))
    supervisor.until(Suspended, request)
    first = supervisor.outcome(request)
    resume = Resume(prompt=first.started.prompt, emitted=pack_tokens(first.tokens), held_as=".held")
    rest = supervisor.turn(ASK, **form, resume=resume)
    assert [*first.tokens, *rest.tokens] == whole.tokens
    both = collect_parts([*parts_of(first), *parts_of(rest)])
    alone = collect_parts(parts_of(whole))
    assert (both.text, [call.arguments for call in both.tool_calls]) == (
        alone.text,
        [call.arguments for call in alone.tool_calls],
    )


def test_id_of_a_call_is_the_same_when_its_request_runs_again(seats):
    form = {"tools": (WEATHER,), "tool_choice": NamedTool(name="get_weather")}
    supervisor = seats("agent")
    supervisor.asked = 4000
    _, first = ask(supervisor, **form)
    supervisor.messages.clear()
    supervisor.asked = 4000
    _, second = ask(supervisor, **form)
    assert first.tool_calls == second.tool_calls
    assert isinstance(RequestKey("t:4001"), str)


def strict(tool):
    return Tool(function=replace(tool.function, strict=True))


def test_strict_tool_that_the_model_chooses_follows_its_schema(seats):
    # The model says four tokens of its own, then the bias has it call.
    sampling = Sampling(temperature=1.0, logit_bias=((CALL_MARK, 9.0), (THINK, -100.0)))
    _, said = ask(seats("agent"), tools=(strict(WEATHER),), sampling=sampling, seed=4)
    assert said.tool_calls
    for call in said.tool_calls:
        arguments = json.loads(call.arguments)
        assert arguments["city"] in ("Rome", "Lima")
        assert 1 <= arguments["days"] <= 14  # the weights are random: only the form keeps to it


def test_strict_tool_leaves_text_free(seats):
    sampling = Sampling(logit_bias=((CALL_MARK, -100.0),))
    outcome, said = ask(seats("agent"), tools=(strict(WEATHER),), sampling=sampling, max_tokens=12)
    assert len(outcome.tokens) == 12
    assert said.text
    assert not said.tool_calls


ENDLESS = ResponseFormat(type="json_schema", schema={"type": "array", "items": {"type": "number"}})
BOUND, ONE = 60, 21


@pytest.mark.parametrize("way", ["answer", "call", "strict"])
def test_form_without_end_is_cut_at_its_bound_as_the_beginning_of_json(seats, monkeypatch, way):
    monkeypatch.setattr(form, "MAX_FORM_TOKENS", BOUND)
    spec = FunctionSpec(
        name="f",
        parameters={"type": "object", "properties": {"a": ENDLESS.schema}, "required": ["a"]},
        strict=way == "strict",
    )
    asked = {"response_format": ENDLESS} if way == "answer" else {"tools": (Tool(function=spec),)}
    if way == "call":
        asked["tool_choice"] = "required"
    # Whatever the grammar lets it, the model calls, then goes on with ones.
    sampling = Sampling(logit_bias=((CALL_MARK, 100.0), (ONE, 50.0), (THINK, -100.0)))
    outcome = seats("agent").turn(ASK, sampling=sampling, max_tokens=None, **asked)
    assert (outcome.finished.finish_reason, outcome.finished.limit) == ("length", "max_tokens")
    assert len(outcome.tokens) == BOUND
    begun = collect_parts(parts_of(outcome)).text
    if way == "answer":
        assert set(str(json.loads(begun + "]")[0])) == {"1"}
    else:
        rest = begun.removeprefix("<tool_call>") + "]}}"
        assert set(str(json.loads(rest)["arguments"]["a"][0])) == {"1"}


def test_max_tokens_of_the_request_is_above_the_bound_of_forms(seats, monkeypatch):
    monkeypatch.setattr(form, "MAX_FORM_TOKENS", BOUND)
    _, said = ask(seats("chatml"), response_format=REPORT, max_tokens=200)
    assert len(json.loads(said.text)["highs"]) == 12
