"""Text of one completion to parts: plain text, reasoning, tool calls. Must not know arrays.

Where reasoning and calls begin and end is told by mlx-lm's text state machine; this file gathers
what it finds. The same ids give the same parts, so a resumed request only feeds them again.
"""

from collections.abc import Sequence
from typing import Any, Final

from mlx_lm.generate import TextStateMachine, make_text_state_machine

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Tool
from hotseat.protocol.parts import join_parts, text_part
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.text.text_out import TextOut
from hotseat.worker.text.tool_calls import CallError, ParsedCall, call_id, read_calls

_NORMAL: Final = "normal"
_REASONING: Final = "reasoning"
_TOOL: Final = "tool"
_CUT_SHORT: Final = "the output ended inside the call"


class PartsOut:
    """Parts of one completion as they become readable. Without `speech` all is text."""

    def __init__(self, text: TextOut, speech: "Speech | None" = None) -> None:
        self._out = text
        self._speech = speech
        self._text: list[str] = []

    @property
    def text(self) -> str:
        """Everything emitted so far that is text."""
        return "".join(self._text)

    @property
    def is_stopped(self) -> bool:
        """True once a stop string came; it counts wherever it stands."""
        return self._out.is_stopped

    @property
    def calls(self) -> int:
        """Tool calls emitted so far."""
        return self._speech.calls if self._speech is not None else 0

    def push(self, token: int) -> tuple[ChunkPart, ...]:
        """What `token` makes readable, maybe nothing."""
        return self._split(self._out.push(token))

    def finish(self) -> tuple[ChunkPart, ...]:
        """The rest: text that was held back, and a call that was not closed."""
        parts = self._split(self._out.finish())
        if self._speech is not None:
            parts = join_parts((*parts, *self._note(self._speech.close())))
        return parts

    def _split(self, text: str) -> tuple[ChunkPart, ...]:
        if not text:
            return ()
        parts = text_part(text) if self._speech is None else self._speech.push(text)
        return self._note(parts)

    def _note(self, parts: tuple[ChunkPart, ...]) -> tuple[ChunkPart, ...]:
        self._text.extend(part.text for part in parts if part.type == "text")
        return parts


class Speech:
    """Reasoning and calls of one completion.

    `thinks`: the prompt ended with the mark that opens reasoning. Calls are looked for only if
    `tools` are given.
    """

    def __init__(
        self, tokenizer: Any, request: RequestKey, tools: Sequence[Tool], *, thinks: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._request = request
        self._tools = tools
        machine = make_text_state_machine(_Marks(tokenizer, finds_calls=bool(tools)))
        first = _REASONING if thinks else tokenizer.response_initial_state or _NORMAL
        self._state = machine.make_state(first)
        self._last = first
        self._call: list[str] = []
        self.calls = 0

    def push(self, text: str) -> tuple[ChunkPart, ...]:
        """Parts that `text` completes."""
        self._state, segments = TextStateMachine.split(self._state, text)
        found: list[ChunkPart] = []
        for state, piece in segments:
            found.extend(self._take(state, piece))
        return join_parts(found)

    def close(self) -> tuple[ChunkPart, ...]:
        """What was held back as the beginning of a mark, and an unfinished call."""
        self._state, rest, state = TextStateMachine.flush(self._state)
        found = self._take(state, rest)
        if self._last == _TOOL:
            found.extend(self._end_call(is_closed=False))
        return join_parts(found)

    def _take(self, state: str, piece: str) -> list[ChunkPart]:
        found: list[ChunkPart] = []
        if self._last == _TOOL and state != _TOOL:
            found.extend(self._end_call(is_closed=True))
        self._last = state
        if state == _TOOL:
            self._call.append(piece)
        elif state == _REASONING and piece:
            found.append(ChunkPart(type="reasoning", text=piece))
        elif state == _NORMAL:
            found.extend(text_part(piece))
        return found

    def _end_call(self, *, is_closed: bool) -> list[ChunkPart]:
        text = "".join(self._call)
        self._call.clear()
        self._last = _NORMAL
        try:
            calls = read_calls(text, self._tokenizer, self._tools)
        except CallError as error:
            # Marks without an end close by themselves; of the others the end is missing.
            is_cut = not is_closed and bool(self._tokenizer.tool_call_end)
            end = self._tokenizer.tool_call_end if is_closed else ""
            return [
                ChunkPart(
                    type="text",
                    text=f"{self._tokenizer.tool_call_start}{text}{end}",
                    tool_parse_error=_CUT_SHORT if is_cut else str(error),
                )
            ]
        return [self._as_part(call) for call in calls]

    def _as_part(self, call: ParsedCall) -> ChunkPart:
        index = self.calls
        self.calls += 1
        return ChunkPart(
            type="tool_call",
            index=index,
            id=call.id or call_id(self._request, index),
            name=call.name,
            arguments_delta=call.arguments,
        )


class _Marks:
    """The marks of a tokenizer, as the state machine asks for them; calls only if looked for."""

    def __init__(self, tokenizer: Any, *, finds_calls: bool) -> None:
        self._tokenizer = tokenizer
        self.has_tool_calling = finds_calls and tokenizer.has_tool_calling

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
