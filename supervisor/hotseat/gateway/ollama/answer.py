"""Answers of chat and generate: whole, and as lines of JSON. Pure."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from hotseat.gateway.chat.answer import chat_logprobs
from hotseat.gateway.errors import message_of
from hotseat.gateway.output import SpokenParts, spoken_calls, spoken_text
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import ToolCall
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, TokenLogprob

MEDIA_TYPE: Final = "application/x-ndjson"
_NS: Final = 1_000_000_000
_ENCODER: Final = msgspec.json.Encoder()


class Frame:
    """What all lines of one answer share. `is_chat`: a message, else a `response`."""

    def __init__(self, model: str, created_at: float, *, is_chat: bool) -> None:
        at = datetime.fromtimestamp(created_at, tz=UTC).isoformat().replace("+00:00", "Z")
        self._shared = {"model": model, "created_at": at}
        self._is_chat = is_chat

    def object(
        self, text: str = "", reasoning: str = "", calls: tuple[ToolCall, ...] = ()
    ) -> dict[str, Any]:
        """A piece of an answer, or a whole one."""
        if not self._is_chat:
            said: dict[str, Any] = {"response": text}
            return {**self._shared, **said, **({"thinking": reasoning} if reasoning else {})}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if reasoning:
            message["thinking"] = reasoning
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        return {**self._shared, "message": message}


class Lines:
    """One streamed answer; every method gives bytes to be sent."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._spoken = SpokenParts()
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> bytes:
        """Nothing: the first line is the first piece."""
        return b""

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """A sign of life: a line that adds nothing."""
        del progress, silent_s
        return self._line(self._frame.object())

    def take(self, chunk: Chunk) -> bytes:
        """Output as it comes."""
        self._logprobs += chunk.logprobs
        return b"".join(self._told(part) for part in self._spoken.take(chunk.parts))

    def end(self, done: Done) -> bytes:
        """What was held back, why it ended, what it took."""
        told = [self._told(part) for part in self._spoken.finish()]
        return b"".join([*told, _encoded({**self._frame.object(), **ending(done)})])

    def fail(self, error: HotseatError) -> bytes:
        """An error in the middle of an answer."""
        return _encoded(told_error(error))

    def _told(self, part: ChunkPart) -> bytes:
        if part.type == "text":
            return self._line(self._frame.object(part.text))
        if part.type == "reasoning":
            return self._line(self._frame.object(reasoning=part.text))
        call = ToolCall(
            id=part.id or "", name=part.name or "", arguments=part.arguments_delta or "{}"
        )
        return self._line(self._frame.object(calls=(call,)))

    def _line(self, plain: dict[str, Any]) -> bytes:
        entries, self._logprobs = self._logprobs, []
        return _encoded({**plain, "done": False, **_logprobs(entries)})


def whole_answer(frame: Frame, done: Done, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """The same at once."""
    told = frame.object(spoken_text(done), done.reasoning, spoken_calls(done))
    return {**told, **ending(done), **_logprobs(logprobs)}


def ending(done: Done) -> dict[str, Any]:
    """Why an answer ended, and what it took: tokens and nanoseconds.

    `load_duration` is what its model needed to come to the seat.
    """
    timing = done.timing
    before_s = timing.queue_s + timing.swap_s
    return {
        "done": True,
        "done_reason": "length" if done.finish_reason == "length" else "stop",
        "total_duration": int(timing.total_s * _NS),
        "load_duration": int(timing.swap_s * _NS),
        "prompt_eval_count": done.usage.prompt_tokens,
        "prompt_eval_duration": int(max(0.0, timing.ttft_s - before_s) * _NS),
        "eval_count": done.usage.completion_tokens,
        "eval_duration": int(timing.decode_s * _NS),
    }


def told_error(error: HotseatError) -> dict[str, Any]:
    """An error as this dialect has it: a sentence."""
    return {"error": message_of(error)}


def _logprobs(entries: list[TokenLogprob]) -> dict[str, Any]:
    found = chat_logprobs(entries)
    return {"logprobs": found["content"]} if found else {}


def _call(call: ToolCall) -> dict[str, Any]:
    given = msgspec.json.decode(call.arguments or "{}")
    return {"id": call.id, "function": {"name": call.name, "arguments": given}}


def _encoded(plain: dict[str, Any]) -> bytes:
    return _ENCODER.encode(plain) + b"\n"
