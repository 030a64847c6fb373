"""Answers of chats and completions: whole, and as a stream of chunks. Pure.

All chunks of an answer have one id and one time of creation; the first delta has the role, one
chunk the reason why it ended, and a usage chunk comes only if it was asked for.
"""

import binascii
from itertools import accumulate
from typing import Any, Final

from hotseat.gateway.errors import openai_error
from hotseat.gateway.output import SpokenParts, spoken_calls, spoken_text
from hotseat.gateway.phases import Phases
from hotseat.gateway.sse import COMMENT, DONE, data_event
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, TokenLogprob, Usage

REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "cancelled": "stop",
}


class Frame:
    """What all objects of one answer share."""

    def __init__(self, *, answer_id: str, created: int, model: str, is_chat: bool) -> None:
        self.is_chat = is_chat
        self._shared = {"id": answer_id, "created": created, "model": model}

    def object(self, choices: list[dict[str, Any]], *, is_chunk: bool) -> dict[str, Any]:
        """An answer or a chunk of one."""
        kind = "text_completion"
        if self.is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {**self._shared, "object": kind, "choices": choices, "system_fingerprint": None}


class ChatStream:
    """One streamed answer; every method gives bytes to be sent."""

    def __init__(self, frame: Frame, *, wants_usage: bool, shows_phases: bool = False) -> None:
        self._frame = frame
        self._phases = Phases(is_shown=shows_phases and frame.is_chat)
        self._wants_usage = wants_usage
        self._spoken = SpokenParts()
        self._calls = 0
        self._logprobs: list[TokenLogprob] = []
        self._texts = 0

    def begin(self) -> bytes:
        """The role, before there is anything else."""
        if not self._frame.is_chat:
            return COMMENT
        return self._delta({"role": "assistant", "content": ""})

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """A sign of life: a comment, which every client takes for what it is."""
        del silent_s
        if line := self._phases.next_line(progress):
            return self._delta({"reasoning_content": line})
        return COMMENT

    def take(self, chunk: Chunk) -> bytes:
        """Output as it comes."""
        self._phases.begin()
        self._logprobs += chunk.logprobs
        return b"".join(self._told(part) for part in self._spoken.take(chunk.parts))

    def end(self, done: Done) -> bytes:
        """What was held back, why it ended, what it used."""
        told = [self._told(part) for part in self._spoken.finish()]
        told.append(self._delta({}, REASONS[done.finish_reason]))
        if self._wants_usage:
            told.append(
                data_event({**self._frame.object([], is_chunk=True), "usage": usage(done.usage)})
            )
        return b"".join([*told, DONE])

    def fail(self, error: HotseatError) -> bytes:
        """An error in the middle of an answer."""
        return data_event(openai_error(error)) + DONE

    def _told(self, part: ChunkPart) -> bytes:
        if part.type == "text":
            return self._delta({"content": part.text})
        if part.type == "reasoning":
            return self._delta({"reasoning_content": part.text})
        index, self._calls = self._calls, self._calls + 1
        head = {"index": index, "id": part.id, "type": "function"}
        named = {"name": part.name, "arguments": ""}
        rest = {"index": index, "function": {"arguments": part.arguments_delta or "{}"}}
        return self._delta({"tool_calls": [{**head, "function": named}]}) + self._delta(
            {"tool_calls": [rest]}
        )

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        entries, self._logprobs = self._logprobs, []
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if self._frame.is_chat:
            choice |= {"delta": delta, "logprobs": chat_logprobs(entries)}
        else:
            text = delta.get("content", "")
            choice |= {"text": text, "logprobs": text_logprobs(entries, self._texts)}
            self._texts += len(text)
        return data_event(self._frame.object([choice], is_chunk=True))


def whole_answer(frame: Frame, done: Done, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """The same at once."""
    text = spoken_text(done)
    choice: dict[str, Any] = {"index": 0, "finish_reason": REASONS[done.finish_reason]}
    if frame.is_chat:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not done.tool_calls else None,
            "refusal": None,
        }
        if done.reasoning:
            message["reasoning_content"] = done.reasoning
        if calls := spoken_calls(done):
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in calls
            ]
        choice |= {"message": message, "logprobs": chat_logprobs(logprobs)}
    else:
        choice |= {"text": text, "logprobs": text_logprobs(logprobs, 0)}
    return {**frame.object([choice], is_chunk=False), "usage": usage(done.usage)}


def usage(used: Usage) -> dict[str, Any]:
    """Tokens; cached ones are part of the prompt's."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.restored_tokens},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
    }


def chat_logprobs(entries: list[TokenLogprob]) -> dict[str, Any] | None:
    """`logprobs` of a chat; None where none were asked for."""
    if not entries:
        return None
    return {
        "content": [
            {
                **_token(entry.text, entry.logprob),
                "top_logprobs": [
                    _token(text, value)
                    for (_, value), text in zip(entry.top, entry.top_texts, strict=False)
                ],
            }
            for entry in entries
        ],
        "refusal": None,
    }


def text_logprobs(entries: list[TokenLogprob], start: int) -> dict[str, Any] | None:
    """`logprobs` of a completion: lists by token."""
    if not entries:
        return None
    texts = [_text(entry.text) for entry in entries]
    offsets = list(accumulate(map(len, texts[:-1]), initial=start))
    return {
        "tokens": texts,
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [
            {
                _text(text): value
                for (_, value), text in zip(entry.top, entry.top_texts, strict=False)
            }
            for entry in entries
        ],
        "text_offset": offsets,
    }


def _token(packed: str, logprob: float) -> dict[str, Any]:
    return {"token": _text(packed), "logprob": logprob, "bytes": list(_bytes(packed))}


def _text(packed: str) -> str:
    return _bytes(packed).decode(errors="replace")


def _bytes(packed: str) -> bytes:
    return binascii.a2b_base64(packed)
