"""Answers of Responses: whole, and as a stream of numbered events. Pure.

A whole answer is what the last event of its stream holds, so both say the same. Reasoning is told
as a summary that leaves nothing out: clients show that, and send it back.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.gateway.conversations.comparing import Compared
from hotseat.gateway.errors import headers_of, message_of
from hotseat.gateway.output import SpokenParts
from hotseat.gateway.phases import Phases, percent_of
from hotseat.gateway.responses.body import Told
from hotseat.gateway.responses.output import OutputItems, parts_of
from hotseat.gateway.sse import named_event
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, ChunkPart, Done, Progress, TokenLogprob, Usage

_REASONS: Final = {
    "model": "model_changed",
    "tools": "tools_changed",
    "template": "reasoning_effort_changed",
    "system": "input_changed",
    "messages": "input_changed",
}
_INVALID: Final = frozenset({"invalid_request", "unsupported_feature", "unsupported_content"})


class Facts(Struct, frozen=True, kw_only=True):
    """What an answer says of itself. `created_at` is Unix time."""

    response_id: str
    created_at: float
    told: Told
    origins: Mapping[str, tuple[str, str]] = {}
    sealed: Callable[[str], str] | None = None
    shows_phases: bool = False
    compared: Compared | None = None


class ResponsesStream:
    """One streamed answer; every method gives bytes to be sent."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._items = OutputItems(facts.origins, facts.sealed)
        self._spoken = SpokenParts()
        self._phases = Phases(is_shown=facts.shows_phases)
        self._number = 0
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> bytes:
        """The answer, before there is anything in it."""
        empty = response_object(self._facts, [], "in_progress")
        return self._event({"type": "response.created", "response": empty}) + self._event(
            {"type": "response.in_progress", "response": empty}
        )

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """A sign of life that counts as an event: comments are nothing to the client in use."""
        del silent_s
        if line := self._phases.next_line(progress):
            return self._told(ChunkPart(type="reasoning", text=line))
        is_queued = progress is not None and progress.phase == "queued" and not self._items.all
        status = "queued" if is_queued else "in_progress"
        event = {
            "type": f"response.{status}",
            "response": response_object(self._facts, self._items.done, status),
        }
        if progress is not None:
            event["hotseat"] = waiting(progress)
        return self._event(event)

    def take(self, chunk: Chunk) -> bytes:
        """Output as it comes."""
        self._phases.begin()
        self._logprobs += chunk.logprobs
        return b"".join(self._told(part) for part in self._spoken.take(chunk.parts))

    def end(self, done: Done) -> bytes:
        """What was held back, and the answer as a whole."""
        told = [self._told(part) for part in self._spoken.finish()]
        status = "completed" if done.finish_reason in ("stop", "tool_calls") else "incomplete"
        told += [self._event(event) for event in self._items.close(status)]
        event = {"type": f"response.{status}", "response": self.answer(done)}
        return b"".join([*told, self._event(event)])

    def answer(self, done: Done) -> dict[str, Any]:
        """The answer at its end."""
        status = "completed" if done.finish_reason in ("stop", "tool_calls") else "incomplete"
        answer = response_object(self._facts, self._items.done, status)
        answer["usage"] = usage(done.usage)
        if status == "incomplete":
            answer["incomplete_details"] = {"reason": "max_output_tokens"}
        return answer

    def fail(self, error: HotseatError) -> bytes:
        """A bad end, in words by which agents know whether to ask again."""
        answer = response_object(self._facts, self._items.all, "failed")
        answer["error"] = failure(error)
        return self._event({"type": "response.failed", "response": answer})

    def _told(self, part: ChunkPart) -> bytes:
        entries: list[TokenLogprob] = []
        if part.type == "text":
            entries, self._logprobs = self._logprobs, []
        return b"".join(self._event(event) for event in self._items.take(part, entries))

    def _event(self, event: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        return named_event(event["type"], event | {"sequence_number": number})


def whole_response(facts: Facts, done: Done, logprobs: list[TokenLogprob]) -> dict[str, Any]:
    """The same at once: reasoning, text, calls."""
    parts = parts_of(done.reasoning, done.text, done.tool_calls)
    telling = ResponsesStream(facts)
    telling.take(Chunk(seq=0, offset_tokens=0, parts=tuple(parts), logprobs=tuple(logprobs)))
    telling.end(done)
    return telling.answer(done)


def response_object(facts: Facts, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    """A response as clients read it."""
    return {
        "id": facts.response_id,
        "object": "response",
        "created_at": facts.created_at,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "output": list(output),
        "truncation": "disabled",
        "usage": None,
        **msgspec.to_builtins(facts.told),
        **diagnostics(facts.compared),
    }


def diagnostics(compared: Compared | None) -> dict[str, Any]:
    """What of the compared prompt begins this one, for those who ask."""
    if compared is None:
        return {}
    if not compared.is_known:
        found: dict[str, Any] = {"type": "comparison_response_not_found"}
    elif compared.change is None:
        found = {"type": "cache_hit"}
    elif compared.change in _REASONS:
        reason = _REASONS[compared.change]
        found = {"type": "cache_miss", "reason": reason, "cache_missed_tokens": compared.tokens}
    else:
        found = {"type": "unavailable"}
    return {"prompt_cache_diagnostics": found}


def usage(used: Usage) -> dict[str, Any]:
    """Tokens; cached and written ones are part of the prompt's."""
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": used.restored_tokens,
            "cache_write_tokens": used.computed_tokens,
        },
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def failure(error: HotseatError) -> dict[str, Any]:
    """An error in a stream. Other codes of overload end a client in use for good."""
    message = message_of(error)
    headers = headers_of(error)
    if error.code == "context_overflow":
        code = "context_length_exceeded"
    elif error.code in _INVALID:
        code = "invalid_prompt"
    elif "retry-after" in headers:
        code = "rate_limit_exceeded"
        message = f"{message}; try again in {headers['retry-after']} s"
    else:
        code = "server_error"
    return {"code": code, "message": message}


def waiting(progress: Progress) -> dict[str, Any]:
    """What a client may show while it waits."""
    percent = percent_of(progress)
    eta_s = None
    if percent and progress.elapsed_s is not None:
        eta_s = math.ceil(progress.elapsed_s * (100.0 - percent) / percent)
    return {"phase": progress.phase, "percent": percent, "eta_s": eta_s}
