"""Promise: whatever tokens a model says, parts that a frame can hold come out, however it streams.

The sequences are drawn from ids of the whole vocabulary, of none of it, and of the marks and crumbs
of every format of calls, so that the readers are reached.
"""

import random

import pytest
from mlx_lm.tokenizer_utils import NaiveStreamingDetokenizer
from mlx_lm.utils import load_tokenizer
from tests.support.call_samples import SAMPLES, TOOLS, splitter_of
from tests.support.models.tiny_models import write_tokenizer

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import encode_link
from hotseat.protocol.link_reports import Emitted
from hotseat.protocol.parts import join_parts
from hotseat.worker.text.parts_out import PartsOut
from hotseat.worker.text.text_out import TextOut

SLICE, RELEASE = 10_000, 1_000_000
VOCAB = 512
LONGEST = 10
SHORT = 60
"""Tokens up to which the naive detokenizer, which reads its whole line with each, goes along."""
DEEP = "[" * 1500
CRUMBS = (
    *"{}[]()<>\"'\\,:;=`",
    '{"name": "look", "arguments": ',
    '{"name": "write", "parameters": {"content": "',
    '"}}',
    "\\ud83d",
    "NaN",
    "-1e999",
    "null",
    "\n",
    "```json\n",
    "<think>",
    "</think>",
    "<parameter=content>\n",
    "\n</parameter>\n",
    "<|channel|>analysis<|message|>",
    "stop here",
    "é",
    "\ufffd",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, vocab=VOCAB)
    return load_tokenizer(folder)


def crumbs_of(tokenizer, name):
    """Ids of what a model of this format says, cut into pieces."""
    texts = [*CRUMBS, *SAMPLES[name].both.split(), SAMPLES[name].look, SAMPLES[name].rest, DEEP]
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def sequence(rng, crumbs):
    """Ids of one completion; every seventh piece is any id, also one that no text belongs to."""
    ids = []
    for _ in range(rng.randrange(LONGEST)):
        any_id = rng.randrange(VOCAB + 40)
        ids += [any_id] if rng.randrange(7) == 0 else rng.choice(crumbs[:-1])
    if rng.randrange(200) == 0:
        ids += crumbs[-1]
    return ids


def said_of(detokenizer, name, ids, stops):
    """Parts of a completion that comes token by token, and its text."""
    out = PartsOut(TextOut(detokenizer, stops), splitter_of(name, tools=TOOLS))
    found = []
    for token in ids:
        found += out.push(token)
        if out.is_stopped:
            break
    return join_parts([*found, *out.finish()])


def text_of(detokenizer, ids, stops):
    out = TextOut(detokenizer, stops)
    found = []
    for token in ids:
        found.append(out.push(token))
        if out.is_stopped:
            break
    return "".join([*found, out.finish()])


@pytest.mark.timeout(7200)
def test_any_sequence_of_tokens_becomes_parts_that_a_frame_holds(row, tokenizer):
    runs = row.runs(push=SLICE, slice=SLICE, release=RELEASE)
    rng = random.Random(23)
    crumbs = {name: crumbs_of(tokenizer, name) for name in SAMPLES}
    calls = errors = 0
    for number in range(runs):
        name = rng.choice(sorted(SAMPLES))
        ids = sequence(rng, crumbs[name])
        stops = ("stop here",) if number % 3 == 0 else ()
        is_naive = number % 20 == 0 and len(ids) < SHORT
        plain = NaiveStreamingDetokenizer(tokenizer) if is_naive else None
        parts = said_of(plain or tokenizer.detokenizer, name, ids, stops)
        whole = splitter_of(name, tools=TOOLS)
        text = text_of(plain or tokenizer.detokenizer, ids, stops)
        assert join_parts([*whole.push(text), *whole.close()]) == parts, (name, ids)
        report = Emitted(request=RequestKey("t:1"), tokens=tuple(ids), text="", parts=parts)
        encode_link(1, report)
        assert {part.type for part in parts} <= {"text", "reasoning", "tool_call"}
        calls += sum(part.type == "tool_call" for part in parts)
        errors += sum(part.tool_parse_error is not None for part in parts)
    assert calls > runs // 20, "the readers were not reached"
    assert errors > runs // 20, "no call was unreadable"
    what = f"{calls} calls, {errors} unreadable,"
    row.record("none", 0, 0, "escaped", runs=runs, what=what)
