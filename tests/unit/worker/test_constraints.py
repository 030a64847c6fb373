"""Forced calls in each format: whatever the grammar lets through, mlx-lm's own parser reads."""

import json
import random
from importlib import import_module

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_tokenizer
from msgspec import structs
from tests.support.models.tiny_models import write_tokenizer

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import FunctionSpec, NamedTool, ResponseFormat, Tool
from hotseat.worker.text.calls.call import plain_tool
from hotseat.worker.text.constraints import FORCIBLE, Marks, make_grammar
from hotseat.worker.text.grammar import OUTGROWN, Grammars

ENDS = frozenset({2})
PLAN = Tool(
    function=FunctionSpec(
        name="plan",
        parameters={
            "type": "object",
            "properties": {
                "where": {"type": "string", "enum": ["Rome", "Lima"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "stops": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/stop"},
                    "minItems": 1,
                    "maxItems": 2,
                },
            },
            "required": ["where", "days", "stops"],
            "additionalProperties": False,
            "$defs": {"stop": {"enum": ["museum", "park"]}},
        },
    )
)


@pytest.fixture(scope="module")
def grammars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    return tokenizer, Grammars(tokenizer, 512, ENDS)


def walk(grammars, grammar, seed, limit=400):
    """Random text that the grammar allows."""
    tokenizer, made = grammars
    matcher = made.processor(grammar, 0, "tool_choice")._matcher
    rng = random.Random(seed)
    ids = []
    while len(ids) < limit:
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        token = rng.choice([int(index) for index in bits.nonzero()[0]])
        if token in ENDS:
            return tokenizer.decode(ids)
        assert matcher.consume_token(token)
        ids.append(token)
    raise AssertionError("the grammar lets the call go on for ever")


@pytest.mark.parametrize("names_first", [False, True])
@pytest.mark.parametrize("parser", sorted(FORCIBLE))
def test_forced_call_is_one_that_the_parser_reads(grammars, parser, names_first):
    module = import_module(f"mlx_lm.tool_parsers.{parser}")
    start, end = module.tool_call_start, module.tool_call_end
    marks = Marks(call_start=start, call_end=end, parser=parser, names_first=names_first)
    grammar = make_grammar(
        marks, json.dumps, response_format=None, tool_choice=NamedTool(name="plan"), tools=[PLAN]
    )
    for seed in range(5):
        text = walk(grammars, grammar, seed).strip()
        assert text.startswith(start) and text.endswith(end)
        inner = text.removeprefix(start).removesuffix(end) if end else text.removeprefix(start)
        parsed = module.parse_tool_call(inner, [plain_tool(PLAN)])
        for call in parsed if isinstance(parsed, list) else [parsed]:
            assert call["name"] == "plan"
            assert call["arguments"]["where"] in ("Rome", "Lima")
            assert call["arguments"]["days"] in range(1, 10)
            assert set(call["arguments"]["stops"]) <= {"museum", "park"}


def test_call_in_an_unknown_format_cannot_be_forced():
    marks = Marks(call_start="<call>", call_end="</call>", parser="pythonic")
    with pytest.raises(HotseatError) as caught:
        make_grammar(marks, json.dumps, response_format=None, tool_choice="required", tools=[PLAN])
    assert (caught.value.code, caught.value.facts["field"]) == (
        "unsupported_feature",
        "tool_choice",
    )


def test_text_needs_no_grammar():
    plain = ResponseFormat(type="text")
    made = make_grammar(
        Marks(), json.dumps, response_format=plain, tool_choice="auto", tools=[PLAN]
    )
    assert made is None


@pytest.mark.parametrize("said", ["I go.\n<function=plan>", "I go.\n<tool_call>\nno"])
def test_prose_before_a_strict_call_does_not_begin_one_by_itself(grammars, said):
    strict = Tool(function=structs.replace(PLAN.function, strict=True))
    marks = Marks(call_start="<tool_call>", call_end="</tool_call>", parser="qwen3_coder")
    grammar = make_grammar(
        marks, json.dumps, response_format=None, tool_choice="auto", tools=[strict]
    )
    tokenizer, made = grammars
    matcher = made.processor(grammar, 0, "tools")._matcher
    ids = tokenizer.encode(said, add_special_tokens=False)
    assert matcher.validate_tokens(ids) < len(ids)
    prose = tokenizer.encode("I go.\n<function", add_special_tokens=False)
    assert matcher.validate_tokens(prose) == len(prose)


def test_strict_call_in_an_unknown_format_is_refused():
    strict = Tool(function=FunctionSpec(name="plan", strict=True))
    marks = Marks(call_start="<call>", call_end="</call>", parser="pythonic")
    with pytest.raises(HotseatError) as caught:
        make_grammar(marks, json.dumps, response_format=None, tool_choice="auto", tools=[strict])
    assert caught.value.facts["field"] == "tools.function.strict"


def test_failure_of_a_grammar_shows_nothing_of_the_output(grammars, capfd):
    tokenizer, made = grammars
    processor = made.processor("start: /[a-z]*/", 0, "response_format")
    secret = tokenizer.encode("h7", add_special_tokens=False)
    processor(mx.array(secret), mx.zeros((1, 512)))
    assert processor.failure == OUTGROWN
    assert '"7"' in processor._matcher.get_error()  # what the library would have said
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def two_tools():
    """Two tools whose definitions have the same name, one recursive from its root."""
    leaf = {"type": "object", "properties": {"v": {"$ref": "#/$defs/item"}}, "required": ["v"]}
    number = leaf | {"additionalProperties": False, "$defs": {"item": {"enum": [1, 2]}}}
    tree = {
        "type": "object",
        "properties": {"kind": {"$ref": "#/$defs/item"}, "next": {"$ref": "#"}},
        "required": ["kind"],
        "additionalProperties": False,
        "$defs": {"item": {"enum": ["x", "y"]}},
    }
    return [
        Tool(function=FunctionSpec(name="first", parameters=number)),
        Tool(function=FunctionSpec(name="second", parameters=tree)),
    ]


def is_tree(value):
    return value["kind"] in ("x", "y") and ("next" not in value or is_tree(value["next"]))


@pytest.mark.parametrize(
    ("parser", "start"), [("json_tools", "<tool_call>"), ("mistral", "[TOOL_CALLS]")]
)
def test_definitions_of_a_tool_stay_its_own(grammars, parser, start):
    module = import_module(f"mlx_lm.tool_parsers.{parser}")
    marks = Marks(call_start=start, call_end=module.tool_call_end, parser=parser)
    tools = two_tools()
    grammar = make_grammar(
        marks, json.dumps, response_format=None, tool_choice="required", tools=tools
    )
    seen = set()
    for seed in range(40):
        text = walk(grammars, grammar, seed, limit=4000).strip()
        first = text.split(start)[1].split(module.tool_call_end or "\x00")[0]
        called = json.loads(first)
        call = called[0] if isinstance(called, list) else called
        seen.add(call["name"])
        arguments = call["arguments"]
        assert arguments in ({"v": 1}, {"v": 2}) if call["name"] == "first" else is_tree(arguments)
    assert seen == {"first", "second"}
