"""Output items of Responses as they grow, with the event for each step. Pure.

An item is added, goes on and is done before the next one begins. Events have no number yet.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hotseat.gateway.chat.answer import chat_logprobs
from hotseat.protocol.messages import ToolCall
from hotseat.protocol.replies import ChunkPart, TokenLogprob

Event = dict[str, Any]
_ID_BYTES: Final = 16
_PREFIXES: Final = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


def new_id(kind: str) -> str:
    """An id of an item that never comes again: agents merge items of one id."""
    return f"{_PREFIXES[kind]}_{secrets.token_hex(_ID_BYTES)}"


class OutputItems:
    """Items of one answer. `sealed` signs reasoning if the client wants it back that way."""

    def __init__(
        self,
        origins: Mapping[str, tuple[str, str]],
        sealed: Callable[[str], str] | None,
    ) -> None:
        self.done: Final[list[dict[str, Any]]] = []
        self._origins = origins
        self._sealed = sealed
        self._open: dict[str, Any] | None = None
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []

    @property
    def all(self) -> list[dict[str, Any]]:
        """Items so far, the last one as far as it is."""
        return self.done if self._open is None else [*self.done, self._finished("incomplete")]

    def take(self, part: ChunkPart, logprobs: list[TokenLogprob]) -> list[Event]:
        """A piece of output."""
        if part.type == "tool_call":
            return [*self.close(), *self._call(part)]
        kind = "message" if part.type == "text" else "reasoning"
        events = self._begin(kind)
        self._text += part.text
        where = self._where()
        if kind == "reasoning":
            name = "response.reasoning_summary_text.delta"
            return [*events, {"type": name, **where, "delta": part.text}]
        told = _logprobs(logprobs)
        self._logprobs += told
        name = "response.output_text.delta"
        return [*events, {"type": name, **where, "delta": part.text, "logprobs": told}]

    def close(self, status: str = "completed") -> list[Event]:
        """The open item is whole."""
        if self._open is None:
            return []
        item = self._finished(status)
        events = self._parts_done(item)
        events.append(self._item_event("done", item))
        self._end(item)
        return events

    def _begin(self, kind: str) -> list[Event]:
        if self._open is not None and self._open["type"] == kind:
            return []
        events = self.close()
        item: dict[str, Any] = {"id": new_id(kind), "type": kind, "status": "in_progress"}
        if kind == "message":
            item |= {"role": "assistant", "content": []}
        else:
            item |= {"summary": []}
        self._open = item
        events.append(self._item_event("added", item))
        where = self._where()
        if kind == "message":
            part = _text_part("", [])
            events.append({"type": "response.content_part.added", **where, "part": part})
        else:
            part = {"type": "summary_text", "text": ""}
            events.append({"type": "response.reasoning_summary_part.added", **where, "part": part})
        return events

    def _parts_done(self, item: dict[str, Any]) -> list[Event]:
        where = self._where()
        if item["type"] == "message":
            (part,) = item["content"]
            told = {"text": self._text, "logprobs": self._logprobs}
            return [
                {"type": "response.output_text.done", **where, **told},
                {"type": "response.content_part.done", **where, "part": part},
            ]
        (part,) = item["summary"]
        return [
            {"type": "response.reasoning_summary_text.done", **where, "text": self._text},
            {"type": "response.reasoning_summary_part.done", **where, "part": part},
        ]

    def _finished(self, status: str) -> dict[str, Any]:
        item = dict(self._open or {})
        item["status"] = status
        if item["type"] == "message":
            item["content"] = [_text_part(self._text, self._logprobs)]
        else:
            item["summary"] = [{"type": "summary_text", "text": self._text}]
            if self._sealed is not None:
                item["encrypted_content"] = self._sealed(self._text)
        return item

    def _call(self, part: ChunkPart) -> list[Event]:
        arguments = part.arguments_delta or "{}"
        item = call_item(self._origins, part.id or "", part.name or "", arguments)
        begun = item | {"arguments": "", "status": "in_progress"}
        where = {"item_id": item["id"], "output_index": len(self.done)}
        name = "response.function_call_arguments"
        events = [
            self._item_event("added", begun),
            {"type": f"{name}.delta", **where, "delta": arguments},
            {"type": f"{name}.done", **where, "arguments": arguments, "name": item["name"]},
            self._item_event("done", item),
        ]
        self._end(item)
        return events

    def _end(self, item: dict[str, Any]) -> None:
        self.done.append(item)
        self._open = None
        self._text = ""
        self._logprobs = []

    def _item_event(self, step: str, item: dict[str, Any]) -> Event:
        index = len(self.done)
        return {"type": f"response.output_item.{step}", "output_index": index, "item": item}

    def _where(self) -> dict[str, Any]:
        item = self._open or {}
        index = "content_index" if item.get("type") == "message" else "summary_index"
        return {"item_id": item.get("id"), "output_index": len(self.done), index: 0}


def parts_of(reasoning: str | None, text: str, calls: Sequence[ToolCall]) -> list[ChunkPart]:
    """A whole reply as pieces of output; white space alone beside a call is no content."""
    parts = [ChunkPart(type="reasoning", text=reasoning)] if reasoning else []
    if text.strip() or (text and not calls):
        parts.append(ChunkPart(type="text", text=text))
    for call in calls:
        part = ChunkPart(
            type="tool_call", id=call.id, name=call.name, arguments_delta=call.arguments
        )
        parts.append(part)
    return parts


def call_item(
    origins: Mapping[str, tuple[str, str]], call_id: str, flat: str, arguments: str
) -> dict[str, Any]:
    """A call, by the name that its client knows."""
    item: dict[str, Any] = {
        "id": new_id("function_call"),
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": flat,
        "arguments": arguments,
    }
    if flat in origins:
        item["namespace"], item["name"] = origins[flat]
    return item


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _logprobs(entries: list[TokenLogprob]) -> list[dict[str, Any]]:
    found = chat_logprobs(entries)
    return found["content"] if found is not None else []
