"""What a model writes as a call is a call or text, and always something that a frame can hold."""

import json
from importlib import import_module
from pathlib import Path

import mlx_lm.tool_parsers
import pytest
from tests.support.call_samples import ARGUMENTS, SAMPLES, error_of, parts_of, said, splitter_of

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import encode_link
from hotseat.protocol.link_reports import Emitted
from hotseat.worker.text.calls.formats import FORMATS, HARMONY, format_of_template

DEEP = 3_000
LOOK, REST = ("look", ARGUMENTS), ("rest", {})
EVERY = sorted(SAMPLES)


def written(name, content):
    """A call of `write` whose content is this text."""
    text = {
        "json_tools": json.dumps({"name": "write", "arguments": {"content": content}}),
        "qwen3_coder": f"\n<function=write>\n<parameter=content>\n{content}\n</parameter>\n"
        "</function>\n",
        "minimax_m2": f'<invoke name="write"><parameter name="content">{content}</parameter>'
        "</invoke>",
        "glm47": f"write\n<arg_key>content</arg_key>\n<arg_value>{content}</arg_value>",
        "gemma4": f'call:write{{content:<|"|>{content}<|"|>}}',
        "kimi_k2": "<|tool_call_begin|>functions.write:0<|tool_call_argument_begin|>"
        f"{json.dumps({'content': content})}<|tool_call_end|>",
    }[name]
    return f"{FORMATS[name].start}{text}{FORMATS[name].end}"


def test_every_parser_of_the_library_has_a_format_with_its_marks():
    folder = Path(mlx_lm.tool_parsers.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert names <= set(FORMATS)
    for name in names:
        module = import_module(f"mlx_lm.tool_parsers.{name}")
        marks = module.tool_call_start, module.tool_call_end
        assert (FORMATS[name].start, FORMATS[name].end) == marks


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ '<|python_tag|>' + m.content }}", "llama"),
        ('ipython {{ \'{"name": "\' + f.name + \'", "parameters": \' }}', "llama"),
        ("{{ 'ipython' }}{{ m.content }}", None),
        ("<|tool_call|>{{ tools }}<|/tool_call|>", "phi"),
        ("<|tool_call|>{{ tools }}", "granite"),
        ({"default": "{{ m }}", "tool_use": "<tool_call>{{ m }}</tool_call>"}, "json_tools"),
    ],
)
def test_template_that_the_library_has_no_name_for_shows_its_format(template, name):
    found = format_of_template(template)
    assert (found.name if found else None) == name


def test_every_format_has_samples():
    assert set(SAMPLES) == {*FORMATS, HARMONY}


@pytest.mark.parametrize("name", EVERY)
def test_one_call_is_read_with_its_arguments(name):
    assert said(parts_of(name, SAMPLES[name].look)) == [LOOK]


@pytest.mark.parametrize("name", EVERY)
def test_call_without_arguments_has_an_empty_object(name):
    assert said(parts_of(name, SAMPLES[name].rest)) == [REST]


@pytest.mark.parametrize("name", EVERY)
def test_parallel_calls_come_in_their_order(name):
    first, second = parts_of(name, SAMPLES[name].both)
    assert said([first, second]) == [LOOK, REST]
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id


@pytest.mark.parametrize("name", sorted(set(EVERY) - {HARMONY, "llama"}))
def test_text_and_reasoning_before_a_call_stay_what_they_are(name):
    parts = parts_of(name, f"<think>Hm.</think>I look. {SAMPLES[name].look}")
    assert said(parts) == [("reasoning", "Hm."), ("text", "I look. "), LOOK]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"llama"}))
def test_without_tools_marks_are_text(name):
    assert said(parts_of(name, SAMPLES[name].look, tools=())) == [("text", SAMPLES[name].look)]


@pytest.mark.parametrize("name", EVERY)
def test_call_that_the_output_cuts_short_is_text_and_says_so(name):
    whole = SAMPLES[name].look
    at = whole.rindex('"b') if '"b' in whole else whole.index("the sky") + 3
    parts = parts_of(name, whole[:at])
    assert [part.type for part in parts] == ["text"]
    if name != "llama":  # without a mark it was never a call
        assert "ended inside the call" in parts[0].tool_parse_error


@pytest.mark.parametrize("name", ["glm47", "longcat", "minicpm5"])
def test_call_whose_last_argument_may_be_missing_needs_its_end_mark(name):
    whole = SAMPLES[name].look
    parts = parts_of(name, whole.removesuffix(FORMATS[name].end))
    assert "ended inside the call" in parts[0].tool_parse_error


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (r'{"name": "look", "arguments": {"at": "\ud83d"}}', "half of a character"),
        (r'{"name": "look", "arguments": {"at": "x", "\ud83d": 1}}', "half of a character"),
        (r'{"name": "lo\ud83dok", "arguments": {}}', "half of a character"),
        (r'{"name": "rest", "arguments": {}, "id": "\udc00"}', "half of a character"),
        (r'{"name": "look", "arguments": "{\"at\": \"\\ud83d\"}"}', "half of a character"),
        ('{"name": "rest", "arguments": {"at": NaN}}', "no numbers of JSON"),
        ('{"name": "rest", "arguments": {"at": -Infinity}}', "no numbers of JSON"),
        ('{"name": "rest", "arguments": {"at": 1e999}}', "larger than"),
        ('{"name": "rest", "arguments": {"at": ' + "1" * 5000 + "}}", "more digits"),
        ('{"name": "look", "arguments": ' + "[" * DEEP + "]" * DEEP + "}", "nested too deeply"),
        ('{"name": "look", "arguments": "' + "[" * DEEP + "]" * DEEP + '"}', "no JSON"),
        ('{"name": "look", "arguments": "' + "[" * DEEP + '"}', "no JSON"),
        ('{"name": "rest", "arguments": {"a": 1, "a": 2}}', "two values of one name"),
        ('{"name": "rest", "arguments": {}, "parameters": {"a": 1}}', "arguments twice"),
        ('{"name": "look", "at": "sky"}', "beside the name"),
        ('{"name": "look"}', "null, not an object"),
        ('{"name": "look", "arguments": {"at": {"a": 1}}}', "is object, not string"),
        ('{"name": "look", "arguments": {"at": "x", "times": "often"}}', "'times' is string"),
        ('{"name": "look", "arguments": {"at": "x", "near": [1, {}]}}', "'near[]' is object"),
        ('{"arguments": {}}', "names no function"),
        ("[1]", "no JSON object"),
        ("", "empty"),
        ('{"name": "rest", "arguments": {}} and so on', "behind the call"),
    ],
    ids=lambda text: text[:40],
)
def test_call_that_cannot_be_read_is_text_that_says_why(inside, reason):
    text = f"<tool_call>{inside}</tool_call>"
    assert reason in error_of("json_tools", text)
    (part,) = parts_of("json_tools", text)
    encode_link(1, Emitted(request=RequestKey("t:1"), tokens=(), text="", parts=(part,)))


@pytest.mark.parametrize(
    ("inside", "calls"),
    [
        (r'{"name": "look", "arguments": {"at": "\ud83d\ude00"}}', [{"at": "\U0001f600"}]),
        ('{"name": "look", "parameters": {"at": "x"}}', [{"at": "x"}]),
        ('{"name": "look", "arguments": "{\\"at\\": \\"x\\"}"}', [{"at": "x"}]),
        ('{"name": "rest", "arguments": null}', [{}]),
        ('{"name": "rest", "arguments": ""}', [{}]),
        ('{"name": "rest"}', [{}]),
        ('{"name": "look", "arguments": {"at": "a\nb"}}', [{"at": "a\nb"}]),
        ('{"name": "look", "arguments": {"at": "</tool_call>"}}', [{"at": "</tool_call>"}]),
        ('{"name": "look", "arguments": {"at": "<tool_call>{"}}', [{"at": "<tool_call>{"}]),
        ('{"name": "look", "arguments": {"at": "<think>"}}', [{"at": "<think>"}]),
        ('```json\n{"name": "look", "arguments": {"at": "x"}}\n```', [{"at": "x"}]),
        ('{"name": "rest"}\n{"name": "look", "arguments": {"at": "x"}}', [{}, {"at": "x"}]),
        ('{"name": "rest"}, {"name": "rest"}', [{}, {}]),
        ('[{"name": "rest"}, {"name": "rest"}]', [{}, {}]),
        ('{"type": "function", "function": {"name": "rest", "arguments": {}}}', [{}]),
        ('{"name": "look", "arguments": {"at": 5, "times": "2"}}', [{"at": "5", "times": 2}]),
        ('{"name": "look", "arguments": {"at": "x", "times": 2.0}}', [{"at": "x", "times": 2}]),
        ('{"name": "look", "arguments": {"at": "x", "times": null}}', [{"at": "x"}]),
        (
            '{"name": "write", "arguments": {"note": null, "count": 3}}',
            [{"note": None, "count": 3}],
        ),
        ('{"name": "nobody", "arguments": {"a": [1, 2.5]}}', [{"a": [1, 2.5]}]),
    ],
    ids=lambda text: str(text)[:40],
)
def test_json_says_what_it_says(inside, calls):
    parts = parts_of("json_tools", f"<tool_call>{inside}</tool_call>")
    assert [json.loads(part.arguments_delta) for part in parts] == calls


@pytest.mark.parametrize(
    "content",
    [
        "x = '</parameter>'\ny = 1",
        "</parameter>",
        "<parameter=content>",
        "a\n</function>\nb",
        "</tool_call>",
        "</tool_call>\n<tool_call>",
        "</arg_value>",
        "</invoke> </parameter>",
        "null",
        "  two spaces before, a line end behind\n",
        '{"a": 1}',
        "7",
        "",
        "<|tool_calls_section_end|>",
        "}{][,:",
    ],
)
@pytest.mark.parametrize(
    "name", ["json_tools", "qwen3_coder", "minimax_m2", "glm47", "gemma4", "kimi_k2"]
)
def test_text_of_an_argument_is_whole_whatever_stands_in_it(name, content):
    assert said(parts_of(name, written(name, content))) == [("write", {"content": content})]


@pytest.mark.parametrize(
    ("text", "note"), [('{"a": 1}', '{"a": 1}'), ("null", None), ("None", "None"), ("3", "3")]
)
def test_bare_text_for_a_string_or_null_is_one_of_both(text, note):
    call = f"<tool_call>\n<function=write>\n<parameter=note>\n{text}\n</parameter>\n</function>\n"
    assert said(parts_of("qwen3_coder", call + "</tool_call>")) == [("write", {"note": note})]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("qwen3_coder", '<tool_call>{"name": "rest", "arguments": 3}</tool_call>', "integer"),
        ("qwen3_coder", "<tool_call>look up</tool_call>", "does not begin"),
        (
            "qwen3_coder",
            "<tool_call><function=look><parameter=times>two</parameter></function></tool_call>",
            "'times' is not",
        ),
        ("glm47", "<tool_call>I would call it</tool_call>", "does not begin"),
        ("pythonic", "<|tool_call_start|>[look('sky')]<|tool_call_end|>", "no name"),
        ("pythonic", "<|tool_call_start|>[look(at=open('x'))]<|tool_call_end|>", "no literal"),
        ("pythonic", "<|tool_call_start|>[look(at='\\ud83d')]<|tool_call_end|>", "half of"),
        ("gemma4", "<|tool_call>call:look{at}<tool_call|>", "no name"),
        ("function_gemma", "<start_function_call>call:look<end_function_call>", "not closed"),
        ("mistral", "[TOOL_CALLS]look the sky", "does not begin"),
        ("kimi_k2", "<|tool_calls_section_begin|>look<|tool_calls_section_end|>", "begin"),
    ],
)
def test_what_a_format_does_not_say_is_text_and_never_a_guess(name, text, reason):
    assert reason in error_of(name, text)


def test_reason_does_not_quote_what_the_model_said():
    said_word = "sesame7"
    for name in FORMATS:
        start, end = FORMATS[name].start, FORMATS[name].end
        for body in (said_word, f"[{said_word}(", f'{{"{said_word}": }}', f"call:x{{{said_word}"):
            for part in parts_of(name, f"{start}{body}{end}"):
                assert said_word not in (part.tool_parse_error or "")


def test_place_of_the_error_is_told():
    text = '<tool_call>{"name": "rest", "arguments": {]}</tool_call>'
    assert f"character {text.index(']')} of the call" in error_of("json_tools", text)


def test_call_that_is_not_closed_does_not_swallow_the_next():
    good = '<tool_call>{"name": "rest"}</tool_call>'
    bad = '<tool_call>{"name": "look", "arguments": {"at": "x}}</tool_call>'
    parts = parts_of("json_tools", f"{bad}\n{good}")
    assert said(parts) == [("text", bad), ("text", "\n"), REST]


def test_call_whose_end_mark_is_missing_ends_where_the_next_begins():
    call = '<tool_call>{"name": "rest"}'
    assert said(parts_of("json_tools", f"{call}\n{call}")) == [REST, REST]


def test_endless_row_of_end_marks_is_answered_in_time():
    text = '<tool_call>{"name": "' + "</tool_call><tool_call>" * 3_000
    assert "".join(part.text for part in parts_of("json_tools", text)) == text


def test_call_inside_reasoning_is_a_call_and_the_reasoning_goes_on():
    parts = parts_of(
        "json_tools", 'hm <tool_call>{"name": "rest"}</tool_call> so</think>Yes.', thinks=True
    )
    assert said(parts) == [("reasoning", "hm "), REST, ("reasoning", " so"), ("text", "Yes.")]


def test_mark_of_a_call_in_reasoning_that_is_none_stays_reasoning_and_says_why():
    parts = parts_of("json_tools", "a <tool_call>b</tool_call> c</think>Yes.", thinks=True)
    assert said(parts) == [
        ("reasoning", "a "),
        ("reasoning", "<tool_call>b</tool_call>"),
        ("reasoning", " c"),
        ("text", "Yes."),
    ]
    assert parts[1].tool_parse_error


def test_second_mark_of_reasoning_inside_reasoning_is_text():
    parts = parts_of("json_tools", "<think>a<think>b</think>c</think>")
    assert said(parts) == [("reasoning", "a<think>b"), ("text", "c</think>")]


def test_several_blocks_of_reasoning_are_reasoning():
    parts = parts_of("json_tools", "<think>a</think>b<think>c")
    assert said(parts) == [("reasoning", "a"), ("text", "b"), ("reasoning", "c")]


def test_text_behind_calls_without_an_end_mark_is_text():
    parts = parts_of("mistral", "[TOOL_CALLS]rest[ARGS]{} Done.")
    assert said(parts) == [REST, ("text", "Done.")]


@pytest.mark.parametrize("lead", ["", "\n", " \n\n "])
def test_white_space_before_a_call_without_a_mark_is_text_however_it_comes(lead):
    text = lead + SAMPLES["llama"].look
    whole = said(parts_of("llama", text))
    assert whole == ([("text", lead)] if lead else []) + [LOOK]
    assert said(parts_of("llama", text, range(len(text)))) == whole


def test_json_answer_that_is_no_call_of_the_tools_stays_text():
    answer = '{"name": "Ada", "parameters": {"born": 1815}}'
    (part,) = parts_of("llama", answer)
    assert (part.type, part.text, part.tool_parse_error) == ("text", answer, None)


def test_json_answer_with_other_keys_is_not_held_back():
    splitter = splitter_of("llama")
    assert splitter.push('{"city": ')[0].text == '{"city": '


def test_kimi_k3_reads_typed_arguments():
    text = (
        '<|open|>tools<|sep|><|open|>call tool="look" index="1"<|sep|>'
        '<|open|>argument key="at" type="string"<|sep|>the sky<|close|>argument<|sep|>'
        '<|open|>argument key="times" type="number"<|sep|>2<|close|>argument<|sep|>'
        '<|open|>argument key="near" type="array"<|sep|>["a", "b"]<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>"
    )
    assert said(parts_of("kimi_k3", text)) == [LOOK]


def test_python_list_of_several_calls_is_read():
    text = "<|tool_call_start|>[rest(), write(count=1.5, note=null)]<|tool_call_end|>"
    assert said(parts_of("pythonic", text)) == [REST, ("write", {"count": 1.5, "note": None})]
