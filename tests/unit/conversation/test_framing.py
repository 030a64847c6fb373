"""What is asked of an answer is judged before a swap: schemas, tools, old registrations."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher
from tests.support.models.records import model_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import (
    FunctionSpec,
    Generate,
    Message,
    ResponseFormat,
    Tool,
    ToolCall,
)
from hotseat.protocol.model import TemplateProbe
from hotseat.supervisor.conversation.framing import is_same_message
from hotseat.supervisor.conversation.intake import check_generate, plan_turn
from hotseat.supervisor.conversation.schemas.check import (
    MAX_SCHEMA_BYTES,
    check_arguments,
    check_schema,
)

FIELD = "response_format.schema"
ASK = (Message(role="user", content="?"),)
BAD = [
    ({"type": "strnig"}, "/type"),
    ({"type": 3}, "/type"),
    ({"$ref": "#/$defs/nobody"}, "/$ref"),
    ({"$ref": "https://example.org/person.json"}, "/$ref"),
    ({"$ref": 3}, "/$ref"),
    ({"properties": []}, "/properties"),
    ({"properties": {"a": 3}}, "/properties/a"),
    ({"properties": {"a": {"items": {"type": "text"}}}}, "/properties/a/items/type"),
    ({"required": "a"}, "/required"),
    ({"enum": []}, "/enum"),
    ({"anyOf": []}, "/anyOf"),
    ({"type": "string", "minLength": "3"}, "/minLength"),
    ({"type": "integer", "maximum": "9"}, "/maximum"),
    ({"$defs": {"a": {"$ref": "http://x"}}, "type": "object"}, "/$defs/a/$ref"),
]
GOOD = [
    {},
    {"type": ["string", "null"]},
    {"type": "object", "properties": {"next": {"$ref": "#"}}},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}},
    {"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "string"}}},
    {"type": "array", "items": [{"type": "string"}]},
    {"type": "object", "additionalProperties": False},
    {"const": {"type": "no type at all"}},
    {"enum": [{"$ref": "http://x"}]},
    {"properties": {"type": {"type": "string"}, "required": {"type": "integer"}}},
]
SCHEMAS = st.recursive(
    st.sampled_from([True, {}, {"type": "string"}, {"type": "integer", "minimum": 3}]),
    lambda inner: st.builds(
        lambda one, other, key: {key: [one, other], "properties": {"a": one}},
        inner,
        inner,
        st.sampled_from(["anyOf", "allOf"]),
    ),
    max_leaves=6,
)


def is_followed(schema):
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    return not LLMatcher.validate_grammar_with_warnings(grammar)[0]


@pytest.mark.parametrize(("schema", "place"), BAD)
def test_schema_that_no_library_follows_is_refused_at_its_place(schema, place):
    assert not is_followed(schema)
    with pytest.raises(HotseatError) as caught:
        check_schema(schema, FIELD)
    error = caught.value
    assert (error.code, error.facts["field"]) == ("invalid_request", FIELD)
    assert error.facts["place"] == place


@pytest.mark.parametrize("schema", GOOD)
def test_schema_that_the_library_follows_is_taken(schema):
    assert is_followed(schema)
    check_schema(schema, FIELD)


@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict)))
def test_sound_schema_of_any_nesting_is_taken(schema):
    check_schema(schema, FIELD)


def test_schema_beyond_the_limit_is_refused_with_its_size():
    with pytest.raises(HotseatError, match=str(MAX_SCHEMA_BYTES)):
        check_schema({"enum": ["x" * MAX_SCHEMA_BYTES]}, FIELD)


def test_bad_schema_of_an_answer_is_refused_before_any_model_is_looked_at():
    wanted = ResponseFormat(type="json_schema", schema={"type": "strnig"})
    with pytest.raises(HotseatError, match="no type"):
        check_generate(Generate(model="m", messages=ASK, response_format=wanted))


def plan_with(parameters, **options):
    tool = Tool(function=FunctionSpec(name="f", parameters=parameters))
    template = TemplateProbe(mode="exact", tools=True, tool_parser="json", forces_calls=True)
    request = Generate(model="m", messages=ASK, tools=(tool,), **options)
    return plan_turn(request, model_record(template=template), None)


def test_arguments_of_a_forced_call_have_to_be_an_object():
    with pytest.raises(HotseatError) as caught:
        plan_with({"type": "array"}, tool_choice="required")
    assert caught.value.facts["field"] == "tools[0].function.parameters"


def test_arguments_that_are_only_shown_to_the_model_are_not_judged():
    assert plan_with({"type": "array"}).framing.tools


def test_tools_of_a_model_that_an_older_version_registered_say_to_import_it_again():
    tool = Tool(function=FunctionSpec(name="f"))
    record = model_record(template=TemplateProbe(mode="exact", tools=True), adapter="/lora")
    request = Generate(model="m", messages=ASK, tools=(tool,))
    way_out = "`hotseat import /nowhere --name m --adapter /lora`"
    with pytest.raises(HotseatError, match=way_out) as caught:
        plan_turn(request, record, None)
    assert caught.value.code == "unsupported_feature"


APART = [
    ({"properties": {"a": {"type": ["string", "null"]}}}, "/properties/a"),
    ({"properties": {"a": {"type": "string", "pattern": "^a$"}}}, "/properties/a/pattern"),
    ({"properties": {"a": True}}, "/properties/a"),
    ({"properties": {}, "required": ["a"]}, "/required"),
    ({"allOf": [{"properties": {"a": {"type": "string"}}}]}, "/allOf"),
]


@pytest.mark.parametrize(("parameters", "place"), APART)
def test_arguments_that_are_written_one_by_one_are_held_to_what_can_be_held(parameters, place):
    check_arguments(parameters, FIELD, "json_tools")
    with pytest.raises(HotseatError) as caught:
        check_arguments(parameters, FIELD, "qwen3_coder")
    assert (caught.value.code, caught.value.facts["place"]) == ("unsupported_feature", place)


def test_pattern_that_backtracks_for_ever_elsewhere_is_compared_at_once():
    names = {"a" * 200 + "!": {}}
    table = {"^(a+)+$": {"type": "integer"}, "^(b|b)*c$": {"type": "string"}}
    check_schema({"properties": names, "patternProperties": table}, FIELD)


def chain(length):
    """References one after the other; the library follows them on a stack that ends."""
    steps = {
        f"d{n}": {"type": "array", "items": {"type": "array", "$ref": f"#/$defs/d{n + 1}"}}
        for n in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": steps | {f"d{length}": {"type": "string"}}}


def test_long_chain_of_references_is_taken_up_to_a_limit():
    check_schema(chain(140), FIELD)
    assert is_followed(chain(140))
    with pytest.raises(HotseatError, match="stand in each other") as caught:
        check_schema(chain(3000), FIELD)
    assert caught.value.code == "unsupported_feature"


@pytest.mark.parametrize("arguments", ["[" * 100_000, "{", '{"a": 1}'])
def test_message_is_compared_whatever_the_arguments_of_its_calls_hold(arguments):
    given_calls = (ToolCall(id="a", name="look", arguments=arguments),)
    sent = Message(role="assistant", tool_calls=given_calls)
    held = Message(role="assistant", tool_calls=(ToolCall(id="a", name="look", arguments="{}"),))
    assert is_same_message(sent, sent)
    assert not is_same_message(sent, held)
