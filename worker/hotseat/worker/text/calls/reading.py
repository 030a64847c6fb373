"""The body of a call to parts of the output: calls, or text that says why it is none.

Decides where a call ends: at the mark behind which nothing of it is missing. Must not know what
stands around calls.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Tool
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.text.calls.call import (
    CallError,
    CallNotBegunError,
    CallUnfinishedError,
    ParsedCall,
    call_id,
    skip_space,
)
from hotseat.worker.text.calls.formats import Reader
from hotseat.worker.text.text_out import first_of

_MARKS: Final = 64
"""End marks that an argument may hold; bounds the work that an endless call can cause."""
_CUT_SHORT: Final = "the output ended inside the call"
_QUOTES: Final = "an argument quotes a call, and the end of this one is missing"


class Body(Struct, frozen=True):
    """How far a call reaches: its text, the mark behind it, and its calls or why there are none."""

    text: str
    mark: str
    calls: tuple[ParsedCall, ...] = ()
    error: CallError | None = None


class BodySearch:
    """Finds the end of one call in text that grows. `ends` close it, `restarts` begin the next.

    `argument_end`: given where nothing but the marks themselves tells a call that an argument
    quotes from the call, so that an end belongs to the newest beginning.
    """

    def __init__(
        self,
        read: Reader,
        tools: Sequence[Tool],
        ends: Sequence[str],
        restarts: Sequence[str] = (),
        *,
        argument_end: str = "",
    ) -> None:
        self._read = read
        self._tools = tools
        self._ends = tuple(ends)
        self._restarts = tuple(restarts)
        self._marks = (*self._ends, *restarts)
        self._looked = 0
        self._seen = 0
        self._argument_end = argument_end
        self._open = 0
        self._first_end: Body | None = None
        self._first_call: Body | None = None

    def find(self, held: str) -> Body | None:
        """The call at the beginning of `held`, which has only grown since; None: not yet known."""
        while found := first_of(held, self._marks, self._looked):
            at, mark = found
            is_end = mark in self._ends
            self._looked = at + len(mark)
            self._seen += 1
            if not is_end and self._seen > _MARKS:
                continue
            body = self._body(held[:at], mark)
            if body.error is None and not (self._argument_end and is_end and self._open):
                return body
            is_empty = isinstance(body.error, CallNotBegunError) or not body.text.strip()
            if is_empty and not is_end:
                return Body(body.text, "", error=body.error)
            self._open = max(0, self._open - 1) if is_end else self._open + 1
            if body.error is None:
                self._first_call = self._first_call or body
                is_hopeless = False
            else:
                self._first_end = self._first_end or (body if is_end else None)
                is_hopeless = not isinstance(body.error, CallUnfinishedError)
            if is_hopeless or self._seen >= _MARKS:
                settled = self._settled(held[:at])
                if settled is not None:
                    return settled
        longest = max((len(mark) for mark in self._marks), default=1)
        self._looked = max(self._looked, len(held) - longest + 1)
        return None

    def finish(self, held: str, *, ends_itself: bool) -> Body:
        """The call in the whole rest of an output; without an end mark it has to read as whole."""
        settled = self._settled(held)
        if settled is not None and self._open:
            return settled
        body = self._body(held, "", is_open=not self._ends)
        if body.error is None and ends_itself:
            return body  # whatever marks it holds are quoted
        if settled is not None:
            return settled
        if body.error is None or isinstance(body.error, CallUnfinishedError):
            at = body.error.position if body.error is not None else len(held)
            return Body(held, "", error=CallError(_CUT_SHORT, at))
        return body

    def _settled(self, held: str) -> Body | None:
        """The best of what was found in `held`: a call whose end may be another one's, or none."""
        call = self._first_call
        if call is None:
            return self._first_end
        at = len(call.text) + len(call.mark)
        following = first_of(held, self._restarts, at)
        rest = held[at : following[0] if following else len(held)]
        if self._argument_end not in rest:
            return call
        # It ended where a call ends that its argument quotes.
        return Body(call.text, call.mark, error=CallError(_QUOTES, len(call.text)))

    def _body(self, text: str, mark: str, *, is_open: bool = False) -> Body:
        """What `text` says; if it `is_open`, something else may follow the calls in it."""
        try:
            calls, end = self._read(text, self._tools)
        except CallError as error:
            return Body(text, mark, error=error)
        except Exception:  # noqa: BLE001 - whatever a model says, it ends no worker
            return Body(text, mark, error=CallError("the call cannot be read"))
        if is_open:
            return Body(text[:end], mark, tuple(calls))
        if skip_space(text, end) < len(text):
            behind = CallError("something stands behind the call", end)
            return Body(text, mark, error=behind)
        return Body(text, mark, tuple(calls))


class CallsOut:
    """Numbers the calls of one request."""

    def __init__(self, request: RequestKey) -> None:
        self._request = request
        self._ids: set[str] = set()
        self.count = 0

    def parts(self, body: Body, start: str, *, in_reasoning: bool) -> list[ChunkPart]:
        """Calls of a body, or its words with the marks around them."""
        if body.error is None:
            return [self._part(call) for call in body.calls]
        at = len(start) + body.error.position
        return [
            ChunkPart(
                type="reasoning" if in_reasoning else "text",
                text=f"{start}{body.text}{body.mark}",
                tool_parse_error=f"character {at} of the call: {body.error}",
            )
        ]

    def _part(self, call: ParsedCall) -> ChunkPart:
        index = self.count
        self.count += 1
        own = call.id if call.id not in self._ids else ""
        self._ids.add(own)
        return ChunkPart(
            type="tool_call",
            index=index,
            id=own or call_id(self._request, index),
            name=call.name,
            arguments_delta=call.arguments,
        )
