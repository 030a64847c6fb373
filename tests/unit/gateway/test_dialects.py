"""Chat, Messages and Ollama: a stream says what the whole answer says, and packages take both."""

import json

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from ollama import ChatResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from hotseat.gateway.chat.answer import ChatStream, Frame, text_logprobs, whole_answer
from hotseat.gateway.messages.answer import MessagesStream, whole_message
from hotseat.gateway.ollama import answer as ollama
from hotseat.gateway.replying import left_out_header
from hotseat.protocol.errors import ERRORS, HotseatError
from hotseat.protocol.parts import collect_parts
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Timing, TokenLogprob, Usage

RAW_EVENT = TypeAdapter(RawMessageStreamEvent)
TEXTS = st.text(min_size=1, max_size=6)
CALLS = st.builds(
    ChunkPart,
    type=st.just("tool_call"),
    id=st.uuids().map(str),
    name=st.just("look"),
    arguments_delta=st.sampled_from(['{"a":1}', "{}"]),
)
WORDS = st.builds(ChunkPart, type=st.sampled_from(["text", "reasoning"]), text=TEXTS)


def numbered(parts):
    """Calls with their places, as the daemon sends them."""
    return [
        replace(part, index=at) if part.type == "tool_call" else part
        for at, part in enumerate(parts)
    ]


ANSWERS = st.lists(st.one_of(WORDS, CALLS), max_size=8).map(numbered)
USED = Usage(prompt_tokens=9, restored_tokens=5, computed_tokens=4, completion_tokens=3)


def done_of(parts, reason="stop", **more):
    found = collect_parts(parts)
    return Done(
        model="m",
        text=found.text,
        tokens=(1, 2, 3),
        finish_reason="tool_calls" if found.tool_calls and reason == "stop" else reason,
        usage=USED,
        timing=Timing(ttft_s=1.5, swap_s=0.5, decode_s=2.0, total_s=4.0),
        reasoning=found.reasoning,
        tool_calls=found.tool_calls,
        **more,
    )


def sent(telling, parts, done):
    """Bytes of a whole stream, in chunks of one part."""
    chunks = [Chunk(seq=at, offset_tokens=at, parts=(part,)) for at, part in enumerate(parts)]
    return b"".join([telling.begin(), *map(telling.take, chunks), telling.end(done)])


def events(data):
    return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]


def frame():
    return Frame(answer_id="chatcmpl-1", created=1, model="m", is_chat=True)


@given(ANSWERS)
def test_chunks_of_a_chat_add_up_to_the_whole_answer(parts):
    done = done_of(parts)
    data = sent(ChatStream(frame(), wants_usage=True), parts, done)
    assert data.count(b"data: [DONE]") == 1 and data.endswith(b"data: [DONE]\n\n")
    told = [ChatCompletionChunk.model_validate(event, strict=True) for event in events(data)]
    *told, last = told
    assert not last.choices and last.usage.total_tokens == 12
    deltas = [chunk.choices[0].delta for chunk in told]
    assert [at for at, delta in enumerate(deltas) if delta.role] == [0]
    reasons = [chunk.choices[0].finish_reason for chunk in told]
    assert [reason for reason in reasons if reason] == reasons[-1:]
    whole = ChatCompletion.model_validate(whole_answer(frame(), done, []), strict=True)
    message = whole.choices[0].message
    assert "".join(delta.content or "" for delta in deltas) == (message.content or "")
    thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thoughts == done.reasoning
    made = [call for delta in deltas for call in delta.tool_calls or ()]
    named = [call for call in made if call.id]
    assert [call.id for call in named] == [call.id for call in message.tool_calls or ()]
    assert [call.index for call in named] == list(range(len(named)))
    for at, call in enumerate(message.tool_calls or ()):
        pieces = [one.function.arguments for one in made if one.index == at]
        assert "".join(pieces) == call.function.arguments


@given(ANSWERS, st.booleans())
def test_blocks_of_messages_follow_each_other_and_add_up(parts, thinks):
    done = done_of(parts)
    told = events(sent(MessagesStream(message_id="msg_1", model="m", thinks=thinks), parts, done))
    for event in told:
        RAW_EVENT.validate_python(event)
    assert told[0]["type"] == "message_start" and told[-1]["type"] == "message_stop"
    blocks = blocks_of(told)
    assert all(block["signature"] for block in blocks if block["type"] == "thinking")
    whole = AnthropicMessage.model_validate(whole_message("msg_1", "m", done), strict=True)
    said = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert said == "".join(block.text for block in whole.content if block.type == "text")
    calls = [(b["id"], json.loads(b["json"])) for b in blocks if b["type"] == "tool_use"]
    assert calls == [(b.id, b.input) for b in whole.content if b.type == "tool_use"]
    usage = whole.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == USED.prompt_tokens


def blocks_of(told):
    """Blocks that the events make; they start, go on and stop one after the other."""
    blocks, is_open = [], False
    for event in told:
        match event["type"]:
            case "content_block_start":
                assert not is_open and event["index"] == len(blocks)
                blocks.append({**event["content_block"], "json": ""})
                is_open = True
            case "content_block_delta":
                assert is_open and event["index"] == len(blocks) - 1
                grow(blocks[-1], event["delta"])
            case "content_block_stop":
                assert is_open
                is_open = False
    assert not is_open
    return blocks


def grow(block, delta):
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case "input_json_delta":
            block["json"] += delta["partial_json"]


@given(ANSWERS)
def test_lines_of_ollama_add_up_to_the_whole_answer(parts):
    done = done_of(parts, "length")
    shared = ollama.Frame("m", 1.0, is_chat=True)
    lines = sent(ollama.Lines(shared), parts, done).splitlines()
    told = [ChatResponse.model_validate_json(line, strict=True) for line in lines]
    whole = ChatResponse.model_validate(ollama.whole_answer(shared, done, []))
    assert [one.done for one in told] == [False] * (len(told) - 1) + [True]
    assert "".join(one.message.content or "" for one in told) == whole.message.content
    assert "".join(one.message.thinking or "" for one in told) == done.reasoning
    calls = [call for one in told for call in one.message.tool_calls or ()]
    assert calls == list(whole.message.tool_calls or ())
    assert (whole.done_reason, whole.prompt_eval_count, whole.eval_count) == ("length", 9, 3)
    assert (whole.load_duration, whole.prompt_eval_duration) == (500_000_000, 1_000_000_000)


@pytest.mark.parametrize(
    ("reason", "more", "chat", "messages"),
    [
        ("stop", {}, "stop", "end_turn"),
        ("stop", {"stop_string": "END"}, "stop", "stop_sequence"),
        ("length", {"limit": "max_tokens"}, "length", "max_tokens"),
        ("length", {"limit": "context"}, "length", "model_context_window_exceeded"),
        ("tool_calls", {}, "tool_calls", "tool_use"),
    ],
)
def test_why_it_ended_is_told_in_the_words_of_each_dialect(reason, more, chat, messages):
    done = done_of([], reason, **more)
    assert whole_answer(frame(), done, [])["choices"][0]["finish_reason"] == chat
    told = whole_message("msg_1", "m", done)
    assert (told["stop_reason"], told["stop_sequence"]) == (messages, more.get("stop_string"))


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_the_table_ends_a_stream_in_its_dialect(code):
    error = HotseatError(code, "What failed; the way out.")
    (told,) = events(ChatStream(frame(), wants_usage=False).fail(error))
    assert told["error"]["message"] == error.message and told["error"]["type"]
    stream = MessagesStream(message_id="msg_1", model="m", thinks=False)
    (told,) = events(stream.fail(error))
    assert told["type"] == "error" and told["error"]["message"] == error.message
    lines = ollama.Lines(ollama.Frame("m", 1.0, is_chat=False)).fail(error)
    assert json.loads(lines) == {"error": error.message}


def test_sign_of_life_of_messages_becomes_content_after_a_minute():
    stream = MessagesStream(message_id="msg_1", model="m", thinks=True)
    assert [event["type"] for event in events(stream.alive(None, 59.0))] == ["ping"]
    late = events(stream.alive(None, 60.0))
    assert [event["type"] for event in late][-2:] == ["content_block_start", "content_block_delta"]
    assert late[-1]["delta"] == {"type": "thinking_delta", "thinking": ""}
    again = events(stream.alive(None, 70.0))
    assert [event["type"] for event in again] == ["ping", "content_block_delta"]


def test_sign_of_life_of_ollama_adds_nothing():
    line = json.loads(ollama.Lines(ollama.Frame("m", 1.0, is_chat=True)).alive(None, 90.0))
    assert (line["message"]["content"], line["done"]) == ("", False)


@given(st.lists(st.text(max_size=9), max_size=3))
def test_header_of_what_was_left_out_is_one_that_http_can_carry(kinds):
    for value in left_out_header(tuple(kinds)).values():
        assert value and value == value.strip() and value.isascii() and value.isprintable()


def test_offsets_of_tokens_add_up_in_one_pass():
    entries = [TokenLogprob(token=1, logprob=-1.0, text="w6Q=")] * 20_000
    told = text_logprobs(entries, 3)
    assert told["text_offset"] == list(range(3, 20_003))
    assert told["tokens"][:2] == ["ä", "ä"]
    assert text_logprobs([], 3) is None
