"""Text of a completion to parts: however it comes in, the same parts come out."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.utils import load_tokenizer
from tests.support import call_samples
from tests.support.call_samples import SAMPLES
from tests.support.models.tiny_models import write_tokenizer

from hotseat.protocol.parts import collect_parts, join_parts, missing_parts, split_parts, units_of
from hotseat.worker.text.calls.formats import FORMATS
from hotseat.worker.text.parts_out import PartsOut
from hotseat.worker.text.text_out import TextOut

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "hm ", "Blue. ", "<", "</thin", CALL, "<tool_call>{no}</tool_call>"]
    ),
    max_size=8,
)


def parts_of(text, cuts=(), **options):
    return call_samples.parts_of("json_tools", text, cuts, **options)


@settings(max_examples=100)
@given(pieces=PIECES, cuts=st.lists(st.integers(0, 200), max_size=20), thinks=st.booleans())
def test_parts_do_not_depend_on_how_the_text_came_in(pieces, cuts, thinks):
    text = "".join(pieces)
    assert parts_of(text, cuts, thinks=thinks) == parts_of(text, thinks=thinks)


@settings(max_examples=100)
@given(pieces=PIECES, at=st.integers(0, 100))
def test_output_cut_anywhere_is_whole_again_when_joined(pieces, at):
    parts = parts_of("".join(pieces))
    head, rest = split_parts(parts, at)
    assert join_parts([*head, *rest]) == parts
    assert units_of(head) == min(at, units_of(parts))


@settings(max_examples=100)
@given(pieces=PIECES, at=st.integers(0, 100))
def test_what_a_reader_misses_completes_what_it_has(pieces, at):
    parts = parts_of("".join(pieces))
    head = split_parts(parts, at)[0]
    missing = missing_parts(head, collect_parts(parts))
    if missing is not None:  # kinds that were interleaved are not told apart by their order
        whole, again = collect_parts(parts), collect_parts([*head, *missing])
        assert (again.text, again.reasoning) == (whole.text, whole.reasoning)
        assert again.tool_calls == whole.tool_calls


def test_call_becomes_a_part_with_id_name_and_arguments():
    text, call = parts_of(f"Wait. {CALL}")
    assert text.text == "Wait. "
    assert (call.type, call.index, call.name) == ("tool_call", 0, "look")
    assert json.loads(call.arguments_delta) == {"at": "sky"}
    assert call.id


def test_calls_of_one_request_have_ids_of_their_own():
    first, second = parts_of(CALL + CALL)
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id


def test_call_that_does_not_parse_stays_text_and_says_why():
    (part,) = parts_of("<tool_call>{no}</tool_call>")
    assert part.text == "<tool_call>{no}</tool_call>"
    assert "cannot be read" in part.tool_parse_error


def test_call_that_was_cut_short_stays_text_and_says_so():
    (part,) = parts_of('<tool_call>{"name": "lo')
    assert part.text == '<tool_call>{"name": "lo'
    assert "ended inside the call" in part.tool_parse_error


def test_call_whose_end_mark_is_missing_but_which_is_whole_counts():
    (part,) = parts_of(CALL.removesuffix("</tool_call>"))
    assert part.name == "look"


def test_marks_of_calls_are_text_when_no_tools_were_given():
    (part,) = parts_of(CALL, tools=())
    assert part.text == CALL


def test_reasoning_that_the_prompt_opened_ends_at_its_mark():
    parts = parts_of("hm </think>Blue.", thinks=True)
    assert [(part.type, part.text) for part in parts] == [("reasoning", "hm "), ("text", "Blue.")]


def test_beginning_of_a_mark_that_never_came_is_not_lost():
    assert collect_parts(parts_of("a < b </thin")).text == "a < b </thin"


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    cuts=st.lists(st.integers(0, 400), max_size=30),
    order=st.lists(st.sampled_from(["look", "rest", "both", "words", "cut"]), max_size=4),
)
def test_no_format_depends_on_how_the_text_came_in(name, cuts, order):
    sample = SAMPLES[name]
    pieces = {"look": sample.look, "rest": sample.rest, "both": sample.both, "words": " so < "}
    text = "".join(pieces.get(piece, sample.look[: len(sample.look) // 2]) for piece in order)
    whole = call_samples.parts_of(name, text)
    assert call_samples.parts_of(name, text, cuts) == whole
    assert call_samples.parts_of(name, text, range(len(text))) == whole


CRUMBS = (
    *("\n\n", " so < ", "<think>", "</think>", "{", "}", '"', "```json\n", "x" * 270, "to=", "<"),
    *('{"name": "look", "parameters": {"at": "x"}}', "<function=look>\n", "</function>"),
    *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", " to=functions.look ", "final"),
)


@st.composite
def outputs(draw):
    """What a model of a format could say if it knew its marks and nothing else."""
    odd = st.sampled_from(["llama", "qwen3_coder", "harmony"])
    name = draw(st.one_of(odd, st.sampled_from(sorted(SAMPLES))))
    sample = SAMPLES[name]
    lead = draw(st.sampled_from(["", "\n\n", f"<|channel|>{'x' * 270}", "<think>a</think>\n\n"]))
    marks = (FORMATS[name].start, FORMATS[name].end) if name in FORMATS else ()
    whole = (sample.look, sample.rest, sample.look[: len(sample.look) // 2], sample.both[9:])
    pieces = st.sampled_from([*CRUMBS, *marks, *whole])
    return name, lead + "".join(draw(st.lists(pieces, min_size=1, max_size=8)))


@settings(max_examples=500, deadline=None)
@given(output=outputs(), cuts=st.lists(st.integers(0, 600), max_size=8), thinks=st.booleans())
def test_marks_in_any_order_do_not_depend_on_how_the_text_came_in(output, cuts, thinks):
    name, text = output
    whole = call_samples.parts_of(name, text, thinks=thinks)
    assert call_samples.parts_of(name, text, cuts, thinks=thinks) == whole
    assert call_samples.parts_of(name, text, range(len(text)), thinks=thinks) == whole


def out_of(tokenizer, text, **options):
    splitter = call_samples.splitter_of("json_tools")
    out = PartsOut(TextOut(tokenizer.detokenizer), splitter, **options)
    found = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        found += out.push(token)
        if out.has_called:
            break
    return out, join_parts([*found, *out.finish()])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)


def test_answer_that_may_have_one_call_ends_with_its_first(tokenizer):
    both = '<tool_call>[{"name": "look", "arguments": {"at": "sky"}}, {"name": "rest"}]</tool_call>'
    for text in (f"Wait. {both} More.", f"Wait. {CALL}{CALL} More."):
        out, parts = out_of(tokenizer, text, one_call=True)
        assert [part.type for part in parts] == ["text", "tool_call"]
        assert (parts[1].name, out.has_called) == ("look", True)
        assert len(out_of(tokenizer, text)[1]) == 4


def test_tokens_of_reasoning_are_counted_with_their_marks(tokenizer):
    thought = "<think>hm hm</think>"
    out, _ = out_of(tokenizer, f"{thought}Blue.")
    alone, _ = out_of(tokenizer, thought)
    count = len(tokenizer.encode(thought, add_special_tokens=False))
    assert out.reasoning_tokens == alone.reasoning_tokens == count
    assert out_of(tokenizer, "Blue.")[0].reasoning_tokens == 0
