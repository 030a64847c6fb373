"""Answers of Responses are valid in the package's eyes, whole and streamed the same."""

import json
import re
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from hotseat.gateway.responses.answer import (
    Facts,
    ResponsesStream,
    failure,
    waiting,
    whole_response,
)
from hotseat.gateway.responses.body import Told
from hotseat.gateway.responses.kept import kept_output
from hotseat.protocol.errors import ERRORS, HotseatError
from hotseat.protocol.messages import Message, ToolCall
from hotseat.protocol.parts import collect_parts
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, Timing, TokenLogprob, Usage

EVENTS = {
    get_args(kind.model_fields["type"].annotation)[0]: TypeAdapter(kind)
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}
TEXTS = st.text(min_size=1, max_size=6)
PARTS = st.one_of(
    st.builds(ChunkPart, type=st.sampled_from(["text", "reasoning"]), text=TEXTS),
    st.builds(
        ChunkPart,
        type=st.just("tool_call"),
        id=TEXTS,
        name=st.sampled_from(["look", "mcp__eyes__look"]),
        arguments_delta=st.sampled_from(['{"a":1}', "{}"]),
    ),
)
USED = Usage(prompt_tokens=9, restored_tokens=5, computed_tokens=4, completion_tokens=3)


def facts(**changes):
    told = Told(
        model="m",
        instructions="Be brief.",
        tools=({"type": "function", "name": "look", "parameters": {}, "strict": False},),
        reasoning={"effort": "low"},
        text={"format": {"type": "text"}},
    )
    origins = {"mcp__eyes__look": ("mcp__eyes", "look")}
    made = {"response_id": "resp_1", "created_at": 1.0, "told": told, "origins": origins}
    return Facts(**made | changes)


def done_of(parts, reason="stop"):
    said = collect_parts(parts)
    return Done(
        model="m",
        text=said.text,
        reasoning=said.reasoning,
        tool_calls=said.tool_calls,
        tokens=(),
        finish_reason=reason,
        usage=USED,
        timing=Timing(),
    )


def events_of(*pieces):
    lines = b"".join(pieces).decode().split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    for event in events:
        EVENTS[event["type"]].validate_python(event)
    return events


def told(parts, reason="stop", **changes):
    telling = ResponsesStream(facts(**changes))
    pieces = [telling.begin()]
    pieces += [telling.take(Chunk(seq=0, offset_tokens=0, parts=(part,))) for part in parts]
    return events_of(*pieces, telling.end(done_of(parts, reason)))


def bare(items):
    """Items without what differs from answer to answer."""
    return [{k: v for k, v in item.items() if k != "id"} for item in items]


def numbered(parts):
    """Parts as they come from a worker: each call has a number of its own."""
    return [
        replace(part, index=at, id=f"c{at}") if part.type == "tool_call" else part
        for at, part in enumerate(parts)
    ]


ANSWERS = st.lists(PARTS, max_size=8).map(numbered)


@given(ANSWERS, st.sampled_from(["stop", "length", "tool_calls", "cancelled"]))
def test_every_event_is_valid_and_numbered_without_holes(parts, reason):
    events = told(parts, reason)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    ended = "completed" if reason in ("stop", "tool_calls") else "incomplete"
    assert last["type"] == f"response.{ended}"
    Response.model_validate(last["response"])


@given(ANSWERS)
def test_each_item_begins_and_ends_once_and_holds_what_its_deltas_said(parts):
    events = told(parts)
    output = events[-1]["response"]["output"]
    steps = Counter(event["type"].rpartition(".")[2] for event in events)
    items = [e for e in events if e["type"].startswith("response.output_item.")]
    assert [e["output_index"] for e in items] == [n for n in range(len(output)) for _ in "ab"]
    assert [e["item"] for e in items[1::2]] == output
    assert steps["added"] >= len(output)
    for index, item in enumerate(output):
        mine = [e for e in events if e.get("output_index") == index and "delta" in e]
        assert {e["item_id"] for e in mine} == {item["id"]}
        said = "".join(e["delta"] for e in mine)
        kept = {"message": "content", "reasoning": "summary"}.get(item["type"])
        assert said == (item[kept][0]["text"] if kept else item["arguments"])
    assert len({item["id"] for item in output}) == len(output)


@given(ANSWERS)
def test_text_of_the_stream_is_that_of_the_daemon(parts):
    final = Response.model_validate(told(parts)[-1]["response"])
    done = done_of(parts)
    expected = done.text if done.text.strip() or not done.tool_calls else ""
    # White space that comes before a call is held back until there is more.
    assert (
        final.output_text in (done.text, expected)
        and final.output_text.strip() == done.text.strip()
    )
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.call_id for call in calls] == [call.id for call in done.tool_calls]


REPLIES = st.builds(
    lambda thought, text, calls: numbered([*thought, *text, *calls]),
    st.lists(st.builds(ChunkPart, type=st.just("reasoning"), text=TEXTS), max_size=2),
    st.lists(st.builds(ChunkPart, type=st.just("text"), text=TEXTS), max_size=2),
    st.lists(PARTS.filter(lambda part: part.type == "tool_call"), max_size=2),
)


@given(REPLIES)
def test_whole_answer_holds_what_the_stream_ended_with(parts):
    streamed = told(parts)[-1]["response"]
    whole = json.loads(json.dumps(whole_response(facts(), done_of(parts), [])))
    Response.model_validate(whole)
    assert bare(whole["output"]) == bare(streamed["output"])
    rest = {key: value for key, value in whole.items() if key != "output"}
    assert rest == {key: value for key, value in streamed.items() if key != "output"}


def test_call_is_told_by_the_name_its_client_gave():
    call = ChunkPart(type="tool_call", id="c", name="mcp__eyes__look", arguments_delta="{}")
    (item,) = told([call])[-1]["response"]["output"]
    assert (item["namespace"], item["name"], item["call_id"]) == ("mcp__eyes", "look", "c")


def test_reasoning_is_sealed_for_those_who_carry_it():
    part = ChunkPart(type="reasoning", text="Hm.")
    (item,) = told([part], sealed=lambda text: f"<{text}>")[-1]["response"]["output"]
    assert item["encrypted_content"] == "<Hm.>"
    assert item["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert "encrypted_content" not in told([part])[-1]["response"]["output"][0]


def test_usage_says_what_was_read_and_what_was_written():
    used = told([])[-1]["response"]["usage"]
    assert used["input_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 4}
    assert (used["input_tokens"], used["output_tokens"], used["total_tokens"]) == (9, 3, 12)
    assert used["output_tokens_details"] == {"reasoning_tokens": 0}


def test_signs_of_life_are_events_with_numbers():
    telling = ResponsesStream(facts())
    queued = Progress(phase="queued", position=2)
    loading = Progress(phase="loading", percent=25.0, elapsed_s=3.0)
    part = ChunkPart(type="text", text="A")
    events = events_of(
        telling.begin(),
        telling.alive(None, 10.0),
        telling.alive(queued, 20.0),
        telling.alive(loading, 30.0),
        telling.take(Chunk(seq=0, offset_tokens=0, parts=(part,))),
        telling.alive(queued, 40.0),
    )
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"].partition(".")[2] for event in events]
    assert kinds[2:5] == ["in_progress", "queued", "in_progress"]
    assert kinds[-1] == "in_progress"
    assert events[4]["hotseat"] == {"phase": "loading", "percent": 25.0, "eta_s": 9}


def test_share_of_a_prompt_is_told_in_percent():
    prefill = Progress(phase="prefill", prompt_tokens_done=30, prompt_tokens=120)
    assert waiting(prefill) == {"phase": "prefill", "percent": 25.0, "eta_s": None}


@pytest.mark.parametrize("code", ERRORS)
def test_bad_end_says_whether_to_ask_again(code):
    error = HotseatError(code, "It failed.", retry_after_s=1.2)
    telling = ResponsesStream(facts())
    part = ChunkPart(type="text", text="Half")
    begun = telling.begin() + telling.take(Chunk(seq=0, offset_tokens=0, parts=(part,)))
    lines = (begun + telling.fail(error)).decode().split("\n")
    last = json.loads([line[6:] for line in lines if line.startswith("data: ")][-1])
    told_code = last["response"]["error"]["code"]
    if code == "context_overflow":  # the package lists no code for it; agents compact by this one
        assert told_code == "context_length_exceeded"
        return
    EVENTS["response.failed"].validate_python(last)
    waits = re.search(r"try again in 2 s", last["response"]["error"]["message"])
    assert (told_code == "rate_limit_exceeded") == bool(waits) == ERRORS[code].retryable
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_prompt_that_is_too_long_is_told_in_the_words_that_agents_know():
    error = HotseatError("context_overflow", "No.", prompt_tokens=9, context_tokens=6)
    assert failure(error)["message"].startswith("prompt is too long: 9 tokens > 5 maximum")


def test_log_probabilities_stand_beside_their_text():
    entry = TokenLogprob(token=1, logprob=-0.5, top=((1, -0.5),), text="QQ==", top_texts=("QQ==",))
    telling = ResponsesStream(facts())
    part = ChunkPart(type="text", text="A")
    chunk = Chunk(seq=0, offset_tokens=0, parts=(part,), logprobs=(entry,))
    events = events_of(telling.begin(), telling.take(chunk), telling.end(done_of([part])))
    (delta,) = [e for e in events if e["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["bytes"] == [65]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == delta["logprobs"]


def test_kept_reply_is_read_as_the_items_it_was():
    call = ToolCall(id="c", name="look", arguments="{}")
    reply = Message(role="assistant", content="So.", reasoning="Hm.", tool_calls=(call,))
    output = kept_output(reply)
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert kept_output(Message(role="assistant", content="\n", tool_calls=(call,)))[0]["type"] == (
        "function_call"
    )
