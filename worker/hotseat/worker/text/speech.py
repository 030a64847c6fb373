"""Reasoning, calls and text of one completion, told apart by a model's marks.

What stands where:

- a mark of reasoning or of a call inside a call's argument is part of the argument;
- a call inside reasoning is a call, and the reasoning goes on behind it to its own end;
- a call that cannot be read is text, or reasoning where it stood in reasoning, and says why;
- reasoning without an end lasts to the output's end; a second opening mark inside it is text.

Must not know tokens.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Tool
from hotseat.protocol.parts import join_parts, text_part
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.text.calls.formats import CallFormat
from hotseat.worker.text.calls.reading import Body, BodySearch, CallsOut
from hotseat.worker.text.text_out import first_of, pending_length

NORMAL: Final = "normal"
REASONING: Final = "reasoning"
_TOOL: Final = "tool"
_BARE: Final = ('{"name":', '{"type":"function"', '{"function":')
"""How a call without a mark may begin, white space left out."""


class _Open(Struct, frozen=True):
    """A call that has begun: the mark that opened it, its format and where its end is looked for.

    `back` is the state behind it; `is_named`: it has no mark, but begins as a call of a given tool.
    """

    start: str
    calls: CallFormat
    search: BodySearch
    back: str
    is_named: bool = False


Edges = dict[str, tuple[tuple[str, str], ...]]
"""Marks that lead from a state to another."""


class Speech:
    """Splits one completion. `thinks`: the prompt ended with the mark that opens reasoning.

    Calls are looked for only if `tools` are given.
    """

    def __init__(
        self,
        tokenizer: Any,
        calls: CallFormat | None,
        request: RequestKey,
        tools: Sequence[Tool],
        *,
        thinks: bool,
    ) -> None:
        self._format = calls if tools else None
        self._tools = tools
        self._unopened = _unopened(self._format, tools)
        self._edges = edges_of(tokenizer, self._format, self._unopened)
        self._state = REASONING if thinks else tokenizer.response_initial_state or NORMAL
        self._held = ""
        self._open: _Open | None = None
        self._has_text = False
        self._out = CallsOut(request)

    @property
    def calls(self) -> int:
        """Tool calls found so far."""
        return self._out.count

    @property
    def is_reasoning(self) -> bool:
        """True while what comes next is reasoning."""
        return self._state == REASONING and self._open is None

    def push(self, text: str) -> tuple[ChunkPart, ...]:
        """Parts that `text` completes."""
        self._held += text
        return self._run(is_over=False)

    def close(self) -> tuple[ChunkPart, ...]:
        """What was held back as the beginning of a mark, and an unfinished call."""
        return self._run(is_over=True)

    def _run(self, *, is_over: bool) -> tuple[ChunkPart, ...]:
        found: list[ChunkPart] = []
        while True:
            if self._open is not None:
                goes_on = self._call(found, self._open, is_over=is_over)
            elif self._may_be_bare(is_over=is_over):
                goes_on = self._begins_bare(found)
            else:
                goes_on = self._words(found, is_over=is_over)
            if not goes_on:
                return join_parts(found)

    def _words(self, found: list[ChunkPart], *, is_over: bool) -> bool:
        """Emits what stands before the next mark; True if there was one."""
        edges = self._edges.get(self._state, ())
        marks = [mark for mark, _ in edges]
        mark = first_of(self._held, marks)
        if mark is None:
            kept = 0 if is_over else pending_length(self._held, marks)
            cut = len(self._held) - kept
            self._emit(found, self._held[:cut])
            self._held = self._held[cut:]
            return False
        at, word = mark
        self._emit(found, self._held[:at])
        target = next(state for text, state in edges if text == word)
        if self._format is not None and word.strip() in self._unopened:
            self._held = self._held[at:]
            self._begin(self._format, "", is_named=True)
            return True
        self._held = self._held[at + len(word) :]
        if target == _TOOL and self._format is not None:
            self._begin(self._format, word)
        else:
            self._state = target
        return True

    def _call(self, found: list[ChunkPart], call: _Open, *, is_over: bool) -> bool:
        """Emits the call if it is known where it ends; True if it is."""
        body = call.search.find(self._held)
        if body is None and is_over:
            body = call.search.finish(self._held, ends_itself=call.calls.ends_itself)
        if body is None:
            return False
        self._open = None
        self._held = self._held[len(body.text) + len(body.mark) :]
        if not (call.start or call.is_named or self._is_of_tools(body)):
            self._emit(found, body.text + body.mark)
            return True
        in_reasoning = call.back == REASONING
        found.extend(self._out.parts(body, call.start, in_reasoning=in_reasoning))
        if body.error is None and body.mark and body.mark in (call.start, call.calls.start):
            self._begin(call.calls, body.mark)
        return True

    def _begin(self, calls: CallFormat, mark: str, *, is_named: bool = False) -> None:
        ends = (calls.end,) if calls.end else ()
        restarts = (calls.start,) if ends else ()
        search = BodySearch(
            calls.read, self._tools, ends, restarts, argument_end=calls.argument_end
        )
        self._open = _Open(mark, calls, search, self._state, is_named)

    def _may_be_bare(self, *, is_over: bool) -> bool:
        """True while the answer may be a call that no mark opens; white space before it is none."""
        signs = self._signs()
        if not signs or self._has_text or self._state != NORMAL or not self._held:
            return False
        begun = "".join(self._held.split())
        if any(begun.startswith(sign) for sign in signs):
            return True
        return not is_over and any(sign.startswith(begun) for sign in signs)

    def _begins_bare(self, found: list[ChunkPart]) -> bool:
        begun = "".join(self._held.split())
        if self._format is None or not any(begun.startswith(sign) for sign in self._signs()):
            return False
        # White space before it may have come alone, and was told then.
        lead = len(self._held) - len(self._held.lstrip())
        self._emit(found, self._held[:lead])
        self._held = self._held[lead:]
        self._begin(self._format, "", is_named=bool(self._unopened))
        return True

    def _signs(self) -> Sequence[str]:
        """How an answer that begins with a call without a mark begins."""
        return _BARE if self._format is not None and self._format.is_bare else self._unopened

    def _is_of_tools(self, body: Body) -> bool:
        """True if the calls name tools that were given: without a mark only those count."""
        names = {tool.function.name for tool in self._tools}
        return body.error is None and all(call.name in names for call in body.calls)

    def _emit(self, found: list[ChunkPart], text: str) -> None:
        if not text:
            return
        if self._state == REASONING:
            found.append(ChunkPart(type="reasoning", text=text))
        elif self._state == NORMAL:
            self._has_text = self._has_text or bool(text.strip())
            found.extend(text_part(text))


def _unopened(calls: CallFormat | None, tools: Sequence[Tool]) -> tuple[str, ...]:
    """How calls of these tools begin where the model forgot the mark."""
    if calls is None or not calls.unopened:
        return ()
    return tuple(calls.unopened.replace("NAME", tool.function.name) for tool in tools)


def edges_of(tokenizer: Any, calls: CallFormat | None, unopened: Sequence[str] = ()) -> Edges:
    """Marks of a tokenizer, as mlx-lm knows them, and of a format of calls.

    `unopened` are marks at the beginning of a line.
    """
    edges: dict[str, list[tuple[str, str]]] = {NORMAL: []}
    if tokenizer.has_thinking:
        edges[NORMAL].append((tokenizer.think_start, REASONING))
        edges[REASONING] = [(tokenizer.think_end, NORMAL)]
    edges[NORMAL] += [(word, NORMAL) for word in tokenizer.structural_markers]
    for state, given in tokenizer.response_transitions.items():
        edges.setdefault(state, []).extend((mark, to) for mark, to in given if to != _TOOL)
        if calls is not None:
            edges[state] += [(mark, to) for mark, to in given if to == _TOOL]
    has_calls = any(to == _TOOL for given in edges.values() for _, to in given)
    if calls is not None and not has_calls:
        edges[NORMAL].append((calls.start, _TOOL))
        edges.setdefault(REASONING, []).append((calls.start, _TOOL))
    edges[NORMAL] += [(f"\n{mark}", _TOOL) for mark in unopened]
    return {state: tuple(given) for state, given in edges.items()}
