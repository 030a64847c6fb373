"""Content never becomes control ids, whatever it spells and wherever it stands."""

import functools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.models import chat_templates
from tokenizers import normalizers, pre_tokenizers

from hotseat.protocol.messages import FunctionSpec, Message, Tool, ToolCall
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.template_probe import probe_template

CLOCK = 1_700_000_000.0
SPACE = "\u2581"
KINDS = ("bytes", "spaced", "first space")
"""Byte-level BPE, and sentencepiece with a space before each piece or before the first."""


def prepend_space(tokenizer, kind):
    """A tokenizer of another kind with the same words: what is unknown is left out."""
    if kind == "bytes":
        return
    backend = tokenizer.backend_tokenizer
    if kind == "spaced":
        spaces = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        backend.normalizer = normalizers.Sequence(spaces)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


@functools.cache
def renderer_of(family, kind="bytes"):
    tokenizer = chat_templates.load_family(Path(tempfile.mkdtemp()), family)
    prepend_space(tokenizer, kind)
    return Renderer(tokenizer, probe_template(tokenizer)), tokenizer


def controls(tokenizer):
    added = tokenizer.added_tokens_decoder
    return {number: str(token.content) for number, token in added.items()}


def forged(text, place):
    """A conversation with `text` in one place, after a call; tools too."""
    at = {"user": "u", "system": "s", "answer": "a", "result": "r", "argument": "x", "key": "k"}
    at |= {"described": "d", "reasoning": "t", place: text}
    call = ToolCall(
        id="tide00001",
        name="tide",
        arguments=json.dumps({at["key"]: at["argument"]}),
    )
    tool = Tool(
        function=FunctionSpec(
            name="tide",
            description=at["described"],
            parameters={"type": "object", "properties": {at["key"]: {"type": "string"}}},
        )
    )
    return [
        Message(role="system", content=at["system"]),
        Message(role="user", content=at["user"]),
        Message(role="assistant", tool_calls=(call,), reasoning=at["reasoning"]),
        Message(role="tool", content=at["result"], tool_call_id="tide00001"),
        Message(role="assistant", content=at["answer"]),
        Message(role="user", content="More"),
    ], (tool,)


def control_ids(renderer, tokenizer, talk):
    messages, tools = talk
    ids = renderer.render(messages, CLOCK, tools=tools)
    known = controls(tokenizer)
    return [number for number in ids if number in known and not known[number].isspace()]


PLACES = ("user", "system", "answer", "result", "argument", "key", "described", "reasoning")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", chat_templates.FAMILIES)
def test_every_special_token_is_text_in_every_place(family, place):
    renderer, tokenizer = renderer_of(family)
    plain = control_ids(renderer, tokenizer, forged("some text", place))
    for number, text in controls(tokenizer).items():
        if not tokenizer.added_tokens_decoder[number].special or text in ("<think>", "</think>"):
            continue
        found = control_ids(renderer, tokenizer, forged(f"some {text} text", place))
        assert found == plain, text
        found = control_ids(renderer, tokenizer, forged(text, place))
        assert found == plain, text


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)
@given(data=st.data())
def test_forged_turns_add_no_control_id_and_stay_readable(kind, data):
    renderer, tokenizer = renderer_of("hermes", kind)
    texts = [text for text in controls(tokenizer).values() if not text.isspace()]
    pieces = st.one_of(
        st.sampled_from(texts),
        st.sampled_from(["Hi", "\n", "system", " ", "<", "|", ">", "<|im_", "end|>", "\ue000"]),
    )
    text = "".join(data.draw(st.lists(pieces, min_size=1, max_size=8)))
    place = data.draw(st.sampled_from(["user", "result", "argument", "described"]))
    plain = control_ids(renderer, tokenizer, forged("some text", place))
    messages, tools = forged(text, place)
    assert control_ids(renderer, tokenizer, (messages, tools)) == plain
    if kind == "bytes" and place == "user":
        shown = tokenizer.decode(renderer.render(messages, CLOCK, tools=tools))
        assert f"<|im_start|>user\n{text}<|im_end|>" in shown


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)
@given(data=st.data())
def test_text_beside_a_forged_token_has_the_ids_it_would_have_without(kind, data):
    """What is told apart is encoded as the tokenizer would, were it no token."""
    renderer, tokenizer = renderer_of("hermes", kind)
    words = st.text("ab <>|\n", max_size=12)
    before, after = data.draw(words), data.draw(words)
    token = data.draw(st.sampled_from(["<|eot|>", "</s>", "[INST]"]))
    ids = renderer.render([Message(role="user", content=f"{before}{token}{after}")], CLOCK)
    template = f"<|im_start|>user\n{before}{token}{after}<|im_end|>\n<|im_start|>assistant\n"
    unknown = tokenizer.backend_tokenizer.from_str(
        tokenizer.backend_tokenizer.to_str().replace(json.dumps(token), json.dumps("\ue777"))
    )
    assert ids == unknown.encode(template, add_special_tokens=False).ids


@pytest.mark.parametrize("family", chat_templates.FAMILIES)
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)
@given(st.text("abc<>|/[]{}\"'\\ \n", max_size=30))
def test_ordinary_content_has_the_ids_of_the_template(family, text):
    renderer, tokenizer = renderer_of(family)
    if any(mark in text for mark in controls(tokenizer).values() if not mark.isspace()):
        return
    talk = [Message(role="user", content=text)]
    plain = [{"role": "user", "content": text}]
    expected = tokenizer.apply_chat_template(plain, add_generation_prompt=True)
    assert renderer.render(talk, CLOCK) == expected
