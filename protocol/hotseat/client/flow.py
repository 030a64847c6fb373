"""The consumer's side of an exchange: awaits items and the end. Only the event loop's thread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from hotseat.client.completion import Completion, StreamEvent
from hotseat.client.dialogue import Dialogue
from hotseat.client.exchange import Exchange
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, ToolCall
from hotseat.protocol.parts import collect_parts
from hotseat.protocol.replies import Accepted, Chunk, Done, Event, Gap, Progress, Reply

Item = TypeVar("Item")
Result = TypeVar("Result")
Canceller = Callable[[str], Awaitable[bool]]
ProgressCallback = Callable[[Progress], None]
_LEAVE_S: Final = 5.0
"""How long leaving a stream early waits for its end; the daemon cancels within one chunk."""


class Flow(Generic[Item, Result]):
    """Items of one exchange in order, then its result or its error."""

    def __init__(self, dialogue: Dialogue, exchange: Exchange[Item, Result]) -> None:
        self._dialogue = dialogue
        self._exchange = exchange
        self._news = asyncio.Event()
        exchange.wake = self._news.set

    @property
    def request_id(self) -> str:
        """Id of the request."""
        return self._exchange.request_id

    @property
    def is_over(self) -> bool:
        """True once result or error arrived."""
        return self._exchange.is_over

    async def next(self) -> Item | None:
        """Next item; None at a good end. Raises the error of a bad one."""
        while True:
            item, messages = self._exchange.take()
            self._dialogue.send(self._exchange, messages)
            if item is not None:
                return item
            if self._exchange.error is not None:
                raise self._exchange.error
            if self._exchange.result is not None:
                return None
            self._news.clear()
            await self._news.wait()

    @property
    def exchange(self) -> Exchange[Item, Result]:
        """What is exchanged, for a consumer on another thread."""
        return self._exchange

    def tell_consumed(self, cost_bytes: int) -> None:
        """Items of this cost were taken by `Exchange.pop`."""
        self._dialogue.send(self._exchange, self._exchange.consumed(cost_bytes))

    async def result(self) -> Result:
        """The result; items not taken before are dropped."""
        while await self.next() is not None:
            pass
        result = self._exchange.result
        assert result is not None  # noqa: S101 - next() returns None only then
        return result

    def abandon(self) -> None:
        """Lets go without asking the daemon anything."""
        self._dialogue.forget(self._exchange)


class StreamFacts:
    """What a stream knows of its request; from any thread."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    @property
    def request_id(self) -> str:
        """Id under which `cancel` and `attach` know this work."""
        return self._completion.request_id

    @property
    def accepted(self) -> Accepted | None:
        """The daemon's promise, once it came."""
        return self._completion.accepted

    @property
    def offset_tokens(self) -> int:
        """Completion tokens received so far: where an `attach` would go on."""
        return self._completion.offset_tokens


class AsyncStream(StreamFacts):
    """One generation: iterate it for chunks, ask it for its result, leave it to cancel.

    Items are Accepted, Progress and Chunk from `events()`; plain iteration yields chunks only
    and hands progress to `on_progress`.
    """

    def __init__(
        self,
        flow: Flow[StreamEvent, Done],
        completion: Completion,
        cancel: Canceller,
        on_progress: ProgressCallback | None,
    ) -> None:
        super().__init__(completion)
        self.completion: Final = completion
        self._flow = flow
        self._cancel = cancel
        self.on_progress: Final = on_progress

    @property
    def flow(self) -> Flow[StreamEvent, Done]:
        """Items as they come."""
        return self._flow

    async def next_event(self) -> StreamEvent | None:
        """Next item of any kind; None at the end."""
        event = await self._flow.next()
        if isinstance(event, Progress) and self.on_progress is not None:
            self.on_progress(event)
        return event

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Everything the daemon says until the end."""
        while (event := await self.next_event()) is not None:
            yield event

    async def text(self) -> AsyncIterator[str]:
        """Text as it comes."""
        async for chunk in self:
            text = text_of(chunk)
            if text:
                yield text

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        while (event := await self.next_event()) is not None:
            if isinstance(event, Chunk):
                return event
        raise StopAsyncIteration

    async def result(self) -> Done:
        """The end of the request; raises its error."""
        while await self.next_event() is not None:
            pass
        return await self._flow.result()

    async def cancel(self) -> bool:
        """Asks the daemon to stop; the stream then ends with finish_reason `cancelled`."""
        return await self._cancel(self.request_id)

    async def leave(self) -> None:
        """Cancels what is still running and waits a bounded time for its end."""
        if self._flow.is_over:
            return
        try:
            # An error here must not hide why the caller left.
            with contextlib.suppress(HotseatError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self.cancel()
                    await self._flow.result()
        finally:
            self._flow.abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


class AsyncEvents:
    """A subscription: iterate it; leaving it as a context manager ends it at the daemon."""

    def __init__(self, flow: Flow[Event | Gap, Reply], cancel: Canceller) -> None:
        self._flow = flow
        self._cancel = cancel

    @property
    def flow(self) -> Flow[Event | Gap, Reply]:
        """Items as they come."""
        return self._flow

    async def next(self) -> Event | Gap | None:
        """Next event; None when the subscription ended."""
        return await self._flow.next()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def leave(self) -> None:
        """Ends the subscription; whether the daemon heard of it does not matter to the caller."""
        if not self._flow.is_over:
            self._flow.abandon()
            with contextlib.suppress(HotseatError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._cancel(self._flow.request_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


def text_of(chunk: Chunk) -> str:
    """The text parts of a chunk, joined."""
    return "".join(part.text for part in chunk.parts if part.type == "text")


def reasoning_of(chunk: Chunk) -> str:
    """The reasoning parts of a chunk, joined."""
    return "".join(part.text for part in chunk.parts if part.type == "reasoning")


def calls_of(chunk: Chunk) -> tuple[ToolCall, ...]:
    """Tool calls of a chunk. A call comes whole: its arguments are read when it is complete."""
    return collect_parts(part for part in chunk.parts if part.type == "tool_call").tool_calls


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object."""
    arguments: dict[str, Any] = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    return arguments


def tool_reply(call: ToolCall, content: str) -> Message:
    """The message that answers a call, to be appended for the next turn."""
    return Message(role="tool", name=call.name, tool_call_id=call.id, content=content)
