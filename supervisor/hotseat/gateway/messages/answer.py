"""Answers of Messages: whole, and as a stream of blocks. Pure.

Blocks start, go on and stop one after the other, with ascending index; thinking ends with a
signature, a digest of its text, since clients keep no thinking without one.
"""

import hashlib
from typing import Any, Final

import msgspec

from hotseat.gateway.conversations.comparing import Compared
from hotseat.gateway.errors import anthropic_error
from hotseat.gateway.output import SpokenParts, spoken_calls, spoken_text
from hotseat.gateway.phases import Phases
from hotseat.gateway.sse import named_event
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, Usage

CONTENT_AFTER_S: Final = 60.0
"""From then on a sign of life is content: a client in wide use asks anew after 300 s of pings."""
_EMPTY_USAGE: Final = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}


class MessagesStream:
    """One streamed answer; every method gives bytes to be sent.

    `thinks`: the answer will begin with reasoning, as far as anybody knows.
    """

    def __init__(
        self,
        *,
        message_id: str,
        model: str,
        thinks: bool,
        shows_phases: bool = False,
        compared: Compared | None = None,
    ) -> None:
        self._compared = compared
        self._phases = Phases(is_shown=shows_phases)
        self._id = message_id
        self._model = model
        self._first = "thinking" if thinks else "text"
        self._spoken = SpokenParts()
        self._index = -1
        self._open = ""
        self._thought = ""

    def begin(self) -> bytes:
        """The message, before there is anything in it."""
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _EMPTY_USAGE,
            **diagnostics(self._compared),
        }
        return named_event("message_start", {"type": "message_start", "message": message})

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """A sign of life: a ping, and after a while an empty piece of the answer."""
        if line := self._phases.next_line(progress):
            return self._thinks(line)
        ping = named_event("ping", {"type": "ping"})
        if silent_s < CONTENT_AFTER_S:
            return ping
        block = self._open if self._open in ("text", "thinking") else self._first
        return ping + self._in_block(block, _delta_of(block, ""))

    def take(self, chunk: Chunk) -> bytes:
        """Output as it comes."""
        self._phases.begin()
        return b"".join(self._told(part) for part in self._spoken.take(chunk.parts))

    def end(self, done: Done) -> bytes:
        """What was held back, why it ended, what it used."""
        told = [self._told(part) for part in self._spoken.finish()]
        told.append(self._stop())
        reason = {"stop_reason": stop_reason(done), "stop_sequence": done.stop_string}
        event = {"type": "message_delta", "delta": reason, "usage": usage(done.usage)}
        told.append(named_event("message_delta", event))
        told.append(named_event("message_stop", {"type": "message_stop"}))
        return b"".join(told)

    def fail(self, error: HotseatError) -> bytes:
        """An error in the middle of an answer."""
        return named_event("error", anthropic_error(error, self._id))

    def _told(self, part: ChunkPart) -> bytes:
        if part.type == "text":
            return self._in_block("text", _delta_of("text", part.text))
        if part.type == "reasoning":
            return self._thinks(part.text)
        block: dict[str, Any] = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": part.arguments_delta or "{}"}
        return self._stop() + self._start(block) + self._delta(delta) + self._stop()

    def _thinks(self, text: str) -> bytes:
        told = self._in_block("thinking", _delta_of("thinking", text))
        self._thought += text
        return told

    def _in_block(self, kind: str, delta: dict[str, Any]) -> bytes:
        if self._open == kind:
            return self._delta(delta)
        empty = {"type": "text", "text": ""}
        if kind == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
        return self._stop() + self._start(empty) + self._delta(delta)

    def _start(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = str(block["type"])
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        return named_event("content_block_start", event)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return named_event("content_block_delta", event)

    def _stop(self) -> bytes:
        if not self._open:
            return b""
        signed = b""
        if self._open == "thinking":
            signature = signature_of(self._thought)
            signed = self._delta({"type": "signature_delta", "signature": signature})
            self._thought = ""
        self._open = ""
        event = {"type": "content_block_stop", "index": self._index}
        return signed + named_event("content_block_stop", event)


def whole_message(
    message_id: str, model: str, done: Done, compared: Compared | None = None
) -> dict[str, Any]:
    """The same at once: thinking, text, calls."""
    content: list[dict[str, Any]] = []
    if done.reasoning:
        signature = signature_of(done.reasoning)
        content.append({"type": "thinking", "thinking": done.reasoning, "signature": signature})
    if text := spoken_text(done):
        content.append({"type": "text", "text": text})
    for call in spoken_calls(done):
        given = msgspec.json.decode(call.arguments or "{}")
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason(done),
        "stop_sequence": done.stop_string,
        "usage": usage(done.usage),
        **diagnostics(compared),
    }


def diagnostics(compared: Compared | None) -> dict[str, Any]:
    """Why the former prompt is not read back; null where all of it begins this one."""
    if compared is None:
        return {}
    if not compared.is_known:
        reason: dict[str, Any] = {"type": "previous_message_not_found"}
    elif compared.change is None:
        return {"diagnostics": None}
    elif compared.change in ("template", "unknown"):
        reason = {"type": "unavailable"}
    else:
        reason = {
            "type": f"{compared.change}_changed",
            "cache_missed_input_tokens": compared.tokens,
        }
    return {"diagnostics": {"cache_miss_reason": reason}}


def stop_reason(done: Done) -> str:
    """Why an answer ended."""
    if done.finish_reason == "tool_calls":
        return "tool_use"
    if done.finish_reason == "length":
        cut = done.limit == "max_tokens"
        return "max_tokens" if cut else "model_context_window_exceeded"
    return "stop_sequence" if done.stop_string is not None else "end_turn"


def usage(used: Usage) -> dict[str, Any]:
    """Tokens: `input_tokens` are those that were in no cache; the three are the whole prompt."""
    return {
        "input_tokens": used.computed_tokens,
        "cache_read_input_tokens": used.restored_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": used.completion_tokens,
    }


def signature_of(thought: str) -> str:
    """A digest of ours; any that comes back is taken."""
    return hashlib.blake2b(thought.encode(), digest_size=24).hexdigest()


def _delta_of(kind: str, text: str) -> dict[str, Any]:
    if kind == "thinking":
        return {"type": "thinking_delta", "thinking": text}
    return {"type": "text_delta", "text": text}
