"""Slips of models and odd schemas: nothing is guessed, melted together, cut, or fatal."""

import json

import pytest
from tests.support.call_samples import SAMPLES, error_of, parts_of, said

from hotseat.protocol.messages import FunctionSpec, Tool
from hotseat.worker.text.calls.formats import FORMATS

EVERY = sorted(SAMPLES)
REST = ("rest", {})


def tool(name, parameters):
    return Tool(function=FunctionSpec(name=name, parameters=parameters))


def test_endless_digits_are_text_and_end_no_worker():
    for name in ("gemma4", "function_gemma"):
        start, end = FORMATS[name].start, FORMATS[name].end
        reason = error_of(name, f"{start}call:rest{{a:{'1' * 5000}}}{end}")
        assert "more digits" in reason


@pytest.mark.parametrize("properties", [5, [{"name": "a"}], ["a"], "abc", None])
@pytest.mark.parametrize("name", EVERY)
def test_odd_table_of_properties_ends_no_worker(name, properties):
    odd = (tool("look", {"properties": properties, "required": 3}), tool("rest", None))
    assert [part.name for part in parts_of(name, SAMPLES[name].both, tools=odd)] == ["look", "rest"]


def coder(body):
    return f"<tool_call>\n{body}\n</tool_call>"


def parameter(name, value):
    return f"<parameter={name}>\n{value}\n</parameter>\n"


NESTED = coder(f"<function=bash>\n{parameter('command', 'rm -rf a')}</function>")
FILE = tool("write", {"properties": {"path": {"type": "string"}, "content": {"type": "string"}}})


def test_file_that_shows_calls_is_written_whole_and_calls_nobody():
    content = f"One:\n{NESTED}\nTwo:\n{NESTED}\nend"
    inside = parameter("path", "d.md") + parameter("content", content)
    text = coder(f"<function=write>\n{inside}</function>")
    assert said(parts_of("qwen3_coder", text, tools=(FILE,))) == [
        ("write", {"path": "d.md", "content": content})
    ]


def test_mark_that_only_opens_inside_an_argument_holds_the_call_back_but_not_for_ever():
    inside = parameter("content", "use <tool_call> here")
    text = coder(f"<function=write>\n{inside}</function>")
    assert said(parts_of("qwen3_coder", text, tools=(FILE,))) == [
        ("write", {"content": "use <tool_call> here"})
    ]


@pytest.mark.parametrize(
    "inside",
    [
        "<parameter=content>\nx\n<parameter=path>\ny\n</parameter>\n",
        parameter("path", "x") + parameter("path", "y"),
    ],
    ids=["end missing", "twice"],
)
def test_arguments_never_melt_into_one_another(inside):
    text = coder(f"<function=write>\n{inside}</function>")
    (part,) = parts_of("qwen3_coder", text, tools=(FILE,))
    assert (part.type, part.text) == ("text", text)
    assert part.tool_parse_error


def test_call_without_the_end_of_its_argument_does_not_swallow_the_next_call():
    bad = coder("<function=write>\n<parameter=content>\nx")
    good = coder(f"<function=write>\n{parameter('path', 'y')}</function>")
    parts = parts_of("qwen3_coder", f"{bad}\n{good}", tools=(FILE,))
    assert said(parts) == [("text", bad), ("text", "\n"), ("write", {"path": "y"})]


@pytest.mark.parametrize(
    ("inside", "arguments"),
    [
        ('at:"he, y: said"', {"at": "he, y: said"}),
        ('"at":"hello"', {"at": "hello"}),
        ("at:007", {"at": "007"}),
        ("at:3.10", {"at": "3.10"}),
    ],
)
def test_gemma_with_the_strings_of_json_says_what_it_says(inside, arguments):
    text = f"<|tool_call>call:look{{{inside}}}<tool_call|>"
    assert said(parts_of("gemma4", text)) == [("look", arguments)]


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#/definitions/A", "definitions": {"A": FILE.function.parameters}},
        {"allOf": [FILE.function.parameters]},
        {"additionalProperties": {"type": "string"}},
    ],
    ids=["reference", "all of", "any name"],
)
def test_string_arguments_are_strings_wherever_the_schema_says_so(parameters):
    text = coder(f"<function=write>\n{parameter('content', '{}')}</function>")
    parts = parts_of("qwen3_coder", text, tools=(tool("write", parameters),))
    assert said(parts) == [("write", {"content": "{}"})]


@pytest.mark.parametrize("content", ["<![CDATA[x]]> y <![CDATA[z]]>", "<![CDATA[x]]>"])
def test_section_of_an_xml_file_is_content(content):
    assert said(
        parts_of(
            "qwen3_coder", coder(f"<function=write>\n{parameter('content', content)}</function>")
        )
    ) == [("write", {"content": content})]


@pytest.mark.parametrize("digits", ["3.10", "1e5", "12345678901234567890.12"])
def test_number_for_a_string_keeps_its_digits(digits):
    text = f'<tool_call>{{"name": "look", "arguments": {{"at": {digits}}}}}</tool_call>'
    assert said(parts_of("json_tools", text)) == [("look", {"at": digits})]


@pytest.mark.parametrize("inside", ["at='1', at='2'", "at='1', near={'x': 1, 'x': 2}", "a={1: 2}"])
def test_python_names_are_told_once(inside):
    text = f"<|tool_call_start|>[rest({inside})]<|tool_call_end|>"
    assert error_of("pythonic", text)


def test_calls_that_the_model_gives_one_id_have_ids_of_their_own():
    call = '<tool_call>{"id": "1", "name": "rest"}</tool_call>'
    first, second = parts_of("json_tools", call + call)
    assert first.id == "1" != second.id


def test_schema_that_leads_to_itself_is_read_in_time():
    branch = {"$ref": "#/properties/a"}
    loop = tool("rest", {"properties": {"a": {"anyOf": [branch, branch, branch]}}})
    text = '<tool_call>{"name": "rest", "arguments": {"a": {"a": 1}}}</tool_call>'
    assert parts_of("json_tools", text, tools=(loop,))[0].name == "rest"


def test_row_of_line_ends_is_read_in_time():
    assert "not begin" in error_of("mistral", "[TOOL_CALLS]rest" + "\n" * 100_000)


def test_word_between_marks_is_no_call():
    parts = parts_of("glm47", "use the <tool_call>tag</tool_call> tag")
    assert [part.type for part in parts] == ["text"] * 3


SHOWN = f"<function=look>\n{parameter('at', 'the sky')}</function>"
SEEN = ("look", {"at": "the sky"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{SHOWN}\n</tool_call>", [SEEN]),
        (SHOWN, [SEEN]),
        (f"I look.\n\n{SHOWN}\n</tool_call>", [("text", "I look.\n"), SEEN]),
        (
            f"<think>Hm.</think>\n{SHOWN}\n</tool_call>",
            [("reasoning", "Hm."), ("text", "\n"), SEEN],
        ),
        (f"{SHOWN}\n</tool_call>\n{coder(SHOWN)}", [SEEN, ("text", "\n"), SEEN]),
        (f"{coder(SHOWN)}\n{SHOWN}\n</tool_call>", [SEEN, ("text", "\n"), SEEN]),
        ("Say <function=look> here", [("text", "Say <function=look> here")]),
        ("\n<function=other>\n</function>", [("text", "\n<function=other>\n</function>")]),
    ],
)
def test_coder_that_forgets_the_mark_calls_a_given_tool_from_the_head_of_a_line(text, told):
    assert said(parts_of("qwen3_coder", text)) == told
    assert said(parts_of("qwen3_coder", text, range(len(text)))) == told


def test_call_without_its_mark_that_cannot_be_read_is_text_that_says_so():
    text = "I look.\n<function=look>\n<parameter=at>\nthe sky"
    parts = parts_of("qwen3_coder", text, range(len(text)))
    assert "".join(part.text for part in parts) == text
    assert "ended inside the call" in parts[-1].tool_parse_error


def test_second_call_of_mistral_that_is_cut_short_leaves_the_first_one():
    text = f'{SAMPLES["mistral"].look}[TOOL_CALLS]rest[ARGS]{{"a'
    first, second = parts_of("mistral", text, range(len(text)))
    assert (first.name, second.text) == ("look", '[TOOL_CALLS]rest[ARGS]{"a')
    assert "ended inside the call" in second.tool_parse_error


@pytest.mark.parametrize("inside", ['[{"name": "look", "arguments": {"at": "x"}}]', " {NAME} "])
def test_pythonic_model_that_was_told_to_write_json_calls_as_well(inside):
    inside = inside.replace("{NAME}", '{"name": "look", "arguments": {"at": "x"}}')
    text = f"<|tool_call_start|>{inside}<|tool_call_end|>"
    assert said(parts_of("pythonic", text)) == [("look", {"at": "x"})]


def json_call(arguments):
    return f'<tool_call>{{"name": "rest", "arguments": {arguments}}}</tool_call>'


@pytest.mark.parametrize(
    "place",
    [lambda one: {"anyOf": one}, lambda one: {"properties": {"a": {"anyOf": one}}}],
    ids=["root", "argument"],
)
def test_schema_of_many_ways_to_itself_is_read_in_time(place):
    loop = tool("rest", place([{"$ref": "#/properties/a"}, {"$ref": "#"}] * 40))
    assert said(parts_of("json_tools", json_call('{"a": {"a": 1}}'), tools=(loop,))) == [
        ("rest", {"a": {"a": 1}})
    ]


NEEDS = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}


@pytest.mark.parametrize("arguments", ["null", '""', '{"x": null}'])
@pytest.mark.parametrize(
    "parameters",
    [{"$ref": "#/$defs/My%20own", "$defs": {"My own": NEEDS}}, {"allOf": [NEEDS]}],
    ids=["reference", "all of"],
)
def test_argument_that_is_required_in_another_place_of_the_schema_is_not_left_out(
    parameters, arguments
):
    text = json_call(arguments)
    (part,) = parts_of("json_tools", text, tools=(tool("rest", parameters),))
    assert (part.type, part.text) == ("text", text)
    assert part.tool_parse_error


@pytest.mark.parametrize(
    ("reference", "schema"),
    [
        ("#/$defs/a%20b", {"$defs": {"a b": {"type": "string"}}}),
        ("#/anyOf/0", {"anyOf": [{"type": "string"}]}),
        ("#word", {"$defs": {"w": {"$anchor": "word", "type": "string"}}}),
    ],
)
def test_type_is_found_wherever_a_reference_leads(reference, schema):
    parameters = {"properties": {"a": {"$ref": reference}}, "$defs": schema.get("$defs", {})}
    parameters |= {"anyOf": [{"type": "string"}]}
    text = coder(f"<function=rest>\n{parameter('a', '{}')}</function>")
    parts = parts_of("qwen3_coder", text, tools=(tool("rest", parameters),))
    assert said(parts) == [("rest", {"a": "{}"})]


@pytest.mark.parametrize("value", ["5", 5])
def test_value_of_another_alternative_stays_what_it_is(value):
    kinds = [
        {"properties": {"kind": {"const": "count"}, "value": {"type": "integer"}}},
        {"properties": {"kind": {"const": "word"}, "value": {"type": "string"}}},
    ]
    arguments = {"kind": "word" if isinstance(value, str) else "count", "value": value}
    text = json_call(json.dumps({"a": arguments}))
    chosen = tool("rest", {"properties": {"a": {"oneOf": kinds}}})
    assert said(parts_of("json_tools", text, tools=(chosen,))) == [("rest", {"a": arguments})]


def test_items_of_a_list_that_may_be_null_have_their_type():
    numbers = {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}
    tools = (tool("rest", {"properties": {"a": numbers}}),)
    assert said(parts_of("json_tools", json_call('{"a": ["1", 2]}'), tools=tools)) == [
        ("rest", {"a": [1, 2]})
    ]
    (part,) = parts_of("json_tools", json_call('{"a": ["one"]}'), tools=tools)
    assert "'a[]' is string, not integer" in part.tool_parse_error


@pytest.mark.parametrize(
    ("name", "call"),
    [("llama", '{"name": "look", "parameters": {"at": "x"}}'), ("qwen3_coder", SHOWN)],
)
@pytest.mark.parametrize("lead", ["\n\n", " \u2028", "<think>Hm.</think>\n\n\n"])
def test_white_space_before_a_call_without_a_mark_streams_as_it_is_read_whole(name, call, lead):
    whole = parts_of(name, f"{lead}{call}")
    assert parts_of(name, f"{lead}{call}", range(100)) == whole
    told = [part.type for part in whole if part.type != "reasoning"]
    assert told == ["text", "tool_call"]
    words = parts_of(name, f"{lead}Hello", range(100))
    assert words == parts_of(name, f"{lead}Hello")
    assert words[-1].text == f"{lead.removeprefix('<think>Hm.</think>')}Hello"


def quoting(name):
    """A call of `write` in `name` whose content quotes a whole call, without its own end mark."""
    start, end = FORMATS[name].start, FORMATS[name].end
    quoted = f"See: {SAMPLES[name].look} so."
    body = {
        "qwen3_coder": "\n<function=write>\n<parameter=content>\n{}\n</parameter>\n</function>\n",
        "minimax_m2": '<invoke name="write"><parameter name="content">{}</parameter></invoke>',
        "glm47": "write<arg_key>content</arg_key><arg_value>{}</arg_value>",
        "minicpm5": '"write"><param name="content">{}</param>',
    }[name].format(quoted)
    return f"{start}{body}", end, quoted


SECTION = '<function name="write"><param name="content"><![CDATA[a</param></function>]]>'
QUOTERS = ["qwen3_coder", "minimax_m2", "glm47", "minicpm5"]


@pytest.mark.parametrize("name", QUOTERS)
def test_call_that_quotes_a_call_is_whole_with_its_end_mark(name):
    text, end, quoted = quoting(name)
    assert said(parts_of(name, text + end)) == [("write", {"content": quoted})]


@pytest.mark.parametrize("name", QUOTERS)
@pytest.mark.parametrize("behind", ["", " Done."])
def test_call_that_quotes_a_call_is_never_cut_where_that_one_ends(name, behind):
    text, _, quoted = quoting(name)
    parts = parts_of(name, text + behind)
    assert parts == parts_of(name, text + behind, range(len(text)))
    if FORMATS[name].ends_itself and not behind:
        assert said(parts) == [("write", {"content": quoted})]
    else:
        assert "".join(part.text for part in parts) == text + behind
        assert parts[0].tool_parse_error


def test_call_that_quotes_a_call_and_has_a_wrong_type_calls_nobody():
    inside = parameter("content", f"See:\n{NESTED}") + parameter("count", "many")
    text = coder(f"<function=write>\n{inside}</function>")
    parts = parts_of("qwen3_coder", text)
    assert {part.type for part in parts} == {"text"}
    assert "".join(part.text for part in parts) == text


@pytest.mark.parametrize(
    ("name", "call", "content"),
    [
        (
            "json_tools",
            '<tool_call>{"name": "write", "arguments": {"content": "a </tool_call> b"}}',
            "a </tool_call> b",
        ),
        (
            "qwen3_coder",
            f"<tool_call><function=write>\n{parameter('content', 'a </tool_call> b')}</function>",
            "a </tool_call> b",
        ),
        (
            "minicpm5",
            f"{SECTION}</param></function>",
            "a</param></function>",
        ),
    ],
)
def test_mark_that_an_argument_quotes_ends_nothing_at_the_end_of_an_output(name, call, content):
    assert said(parts_of(name, call)) == [("write", {"content": content})]
