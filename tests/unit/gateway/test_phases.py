"""Phases as reasoning: each is told once before the first output, and never to a model."""

import json

import msgspec
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from hotseat.gateway.chat.answer import ChatStream, Frame
from hotseat.gateway.chat.body import read_chat
from hotseat.gateway.messages.answer import MessagesStream
from hotseat.gateway.messages.body import read_messages
from hotseat.gateway.phases import Phases, phase_line, without_phases
from hotseat.gateway.responses.answer import Facts, ResponsesStream
from hotseat.gateway.responses.body import Told, read_response
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, Timing, Usage

QUEUED = Progress(phase="queued", model="m", position=2)
LOADING = Progress(phase="loading", model="m", percent=40.0)
LINES = "[hotseat] waits for its turn, place 2\n[hotseat] loading m, 40 %\n"
THOUGHT = Chunk(seq=0, offset_tokens=0, parts=(ChunkPart(type="reasoning", text="Hm."),))
DONE = Done(
    model="m",
    text="",
    tokens=(1,),
    finish_reason="stop",
    usage=Usage(prompt_tokens=1, restored_tokens=0, computed_tokens=1, completion_tokens=1),
    timing=Timing(ttft_s=0.0, swap_s=0.0, decode_s=0.0, total_s=0.0),
    reasoning="Hm.",
)
PROGRESS = st.builds(
    Progress,
    phase=st.sampled_from(["queued", "loading", "prefill", "draining"]),
    model=st.sampled_from([None, "m"]),
    percent=st.none() | st.floats(0, 100),
    prompt_tokens_done=st.none() | st.integers(0, 9),
    prompt_tokens=st.none() | st.integers(0, 9),
)


def events(telling):
    """What a client reads while it waits through two phases, and then of an answer."""
    told = [telling.begin(), *(telling.alive(at, 10.0) for at in (QUEUED, QUEUED, LOADING))]
    told += [telling.take(THOUGHT), telling.alive(QUEUED, 10.0), telling.end(DONE)]
    data = b"".join(told)
    return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]


def test_chat_shows_each_phase_once():
    frame = Frame(answer_id="c", created=1, model="m", is_chat=True)
    told = events(ChatStream(frame, wants_usage=False, shows_phases=True))
    for event in told:
        ChatCompletionChunk.model_validate(event)
    deltas = [choice["delta"] for event in told for choice in event["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == LINES + "Hm."


def test_messages_shows_each_phase_once():
    told = events(MessagesStream(message_id="m", model="m", thinks=False, shows_phases=True))
    for event in (event for event in told if event["type"] != "ping"):
        TypeAdapter(RawMessageStreamEvent).validate_python(event)
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == LINES + "Hm."


def test_responses_shows_each_phase_once():
    facts = Facts(response_id="r", created_at=1, told=Told(model="m"), shows_phases=True)
    told = events(ResponsesStream(facts))
    for event in told:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
    assert told[-1]["response"]["output"][0]["summary"][0]["text"] == LINES + "Hm."


def test_nothing_is_shown_unless_it_was_asked_for():
    assert Phases(is_shown=False).next_line(QUEUED) == ""
    assert Phases(is_shown=True).next_line(None) == ""
    plain = events(MessagesStream(message_id="m", model="m", thinks=False))
    assert "[hotseat]" not in json.dumps(plain)


@given(st.lists(PROGRESS, max_size=5), st.text(max_size=20))
def test_reasoning_that_comes_back_is_what_the_model_said(phases, thought):
    shown = "".join(map(phase_line, phases))
    assert without_phases(shown + thought) == without_phases(thought)


def test_no_dialect_shows_phases_to_a_model():
    said = {"role": "assistant", "content": "a", "reasoning_content": LINES + "Hm."}
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}, said]}
    assert read_chat(msgspec.json.encode(body)).messages[1].reasoning == "Hm."
    block = {"type": "thinking", "thinking": LINES, "signature": "s"}
    body["messages"][1] = {"role": "assistant", "content": [block, {"type": "text", "text": "a"}]}
    assert read_messages(msgspec.json.encode(body)).messages[1].reasoning is None
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": LINES + "Hm."}]},
        {"role": "assistant", "content": "a"},
    ]
    data = msgspec.json.encode({"model": "m", "input": items})
    assert read_response(data, lambda _text: None).asked.messages[0].reasoning == "Hm."
