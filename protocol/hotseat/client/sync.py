"""The client for ordinary programs: the asyncio client on a thread of its own.

The thread keeps pinging and receiving while the caller computes. It may be used from several
threads at once. It adds no behaviour: everything that is decided is decided in `aio`.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from hotseat.client.aio import RECONNECT_S, AsyncClient, SwapMode
from hotseat.client.disk_verbs import SyncDiskVerbs
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.flow import AsyncEvents, AsyncStream, ProgressCallback, text_of
from hotseat.client.pull import Pull
from hotseat.client.requests import GenerateOptions, MessageLike
from hotseat.client.results import CALL_S
from hotseat.client.session_verbs import SyncSessionVerbs
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES, WELCOME_S
from hotseat.protocol.replies import (
    Accepted,
    Chunk,
    Done,
    Event,
    Gap,
    Progress,
    SwapReport,
    Welcome,
)
from hotseat.protocol.views import (
    ModelView,
    PlanView,
    QuoteView,
    ReleaseView,
    ReloadView,
    StatusView,
    WhyView,
)

T = TypeVar("T")
_FINISH_S: Final = 1.0


class _LoopThread:
    """An event loop on a daemon thread, and a way to run coroutines there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="hotseat-client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine there and waits for it; an interrupt of the waiting cancels it."""
        future = self.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Starts a coroutine there."""
        if self._loop.is_closed():
            work.close()
            raise DaemonUnreachable("client was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def begin_call(self, function: Callable[[], None]) -> None:
        """Has a plain function run there soon; not at all once it is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def call(self, function: Callable[[], T]) -> T:
        """Runs a plain function there."""

        async def work() -> T:
            return function()

        return self.run(work())

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a last coroutine, lets waiting threads see its effect, ends loop and thread."""
        if self._loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            # A client collected by its own loop: waiting for it here would never end.
            self._loop.create_task(self._finish(last)).add_done_callback(
                lambda _: self._loop.stop()
            )
            return
        self.run(self._finish(last))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _finish(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await last()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_FINISH_S)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Stream:
    """One generation: iterate it for chunks, ask it for its result, leave it to cancel."""

    def __init__(
        self, loop: _LoopThread, stream: AsyncStream, on_progress: ProgressCallback | None
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._pull = Pull(stream.flow, loop.begin_call)
        self._on_progress = on_progress

    @property
    def request_id(self) -> str:
        """Id under which `cancel` and `attach` know this work."""
        return self._stream.request_id

    @property
    def accepted(self) -> Accepted | None:
        """The daemon's promise, once it came."""
        return self._stream.accepted

    @property
    def offset_tokens(self) -> int:
        """Completion tokens received so far: where an `attach` would go on."""
        return self._stream.offset_tokens

    def next_event(self) -> Accepted | Progress | Chunk | None:
        """Next item of any kind; None at the end. Progress goes to the callback, in this thread."""
        event = self._pull.next()
        if isinstance(event, Progress) and self._on_progress is not None:
            self._on_progress(event)
        return event

    def events(self) -> Iterator[Accepted | Progress | Chunk]:
        """Everything the daemon says until the end."""
        while (event := self.next_event()) is not None:
            yield event

    def text(self) -> Iterator[str]:
        """Text as it comes."""
        for chunk in self:
            text = text_of(chunk)
            if text:
                yield text

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        while (event := self.next_event()) is not None:
            if isinstance(event, Chunk):
                return event
        raise StopIteration

    def result(self) -> Done:
        """The end of the request; raises its error."""
        while self.next_event() is not None:
            pass
        return self._loop.run(self._stream.result())

    def cancel(self) -> bool:
        """Asks the daemon to stop; the stream then ends with finish_reason `cancelled`."""
        return self._loop.run(self._stream.cancel())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._stream.leave())


class EventStream:
    """A subscription: iterate it; leaving it as a context manager ends it at the daemon."""

    def __init__(self, loop: _LoopThread, events: AsyncEvents) -> None:
        self._loop = loop
        self._events = events
        self._pull = Pull(events.flow, loop.begin_call)

    def __iter__(self) -> Self:
        return self

    def next(self, timeout_s: float | None = None) -> Event | Gap | None:
        """Next event; None when the subscription ended, or nothing came in time."""
        try:
            return self._pull.next(timeout_s)
        except TimeoutError:
            return None

    def __next__(self) -> Event | Gap:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.run(self._events.leave())


class Client(SyncSessionVerbs, SyncDiskVerbs):
    """A connection to the daemon that survives restarts of the daemon; see `AsyncClient`.

    Connected when it is built; raises DaemonUnreachable when no daemon answers in time.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        home: Path | None = None,
        token: str | None = None,
        name: str = "python",
        connect_timeout_s: float = WELCOME_S,
        reconnect_timeout_s: float = RECONNECT_S,
        call_timeout_s: float = CALL_S,
        window_bytes: int = DEFAULT_CREDIT_BYTES,
    ) -> None:
        self._client = AsyncClient(
            endpoint=endpoint,
            home=home,
            token=token,
            name=name,
            connect_timeout_s=connect_timeout_s,
            reconnect_timeout_s=reconnect_timeout_s,
            call_timeout_s=call_timeout_s,
            window_bytes=window_bytes,
        )
        self._verbs = self._disk_verbs = self._client
        self._loop = _LoopThread()
        # Runs at close, when a forgotten client is collected, and at the end of the program.
        self._close = weakref.finalize(self, self._loop.stop, self._client.close)
        try:
            self._loop.run(self._client.connect())
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        """Ends connection and thread. Work still open is treated by its `on_vanish`."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    @property
    def token(self) -> str:
        """Identity of this client: give it to another client to continue its work."""
        return self._client.token

    @property
    def welcome(self) -> Welcome | None:
        """The daemon's greeting; None while there is no connection."""
        return self._client.welcome

    @property
    def instances(self) -> tuple[str, ...]:
        """Instances of the daemon seen by this client; two differ by a restart."""
        return self._client.instances

    def generate(
        self,
        model: str,
        *,
        request_id: str | None = None,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Starts work; the stream is iterated, or left to cancel it."""
        stream = self._loop.call(
            lambda: self._client.generate(model, request_id=request_id, **options)
        )
        return Stream(self._loop, stream, on_progress)

    def attach(
        self,
        request_id: str,
        offset_tokens: int = 0,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> Stream:
        """Joins work of this token in progress, or its kept result, from an offset on."""
        stream = self._loop.call(lambda: self._client.attach(request_id, offset_tokens))
        return Stream(self._loop, stream, on_progress)

    def cancel(self, request_id: str) -> bool:
        """Ends work of this token; False when there was nothing left to end."""
        return self._loop.run(self._client.cancel(request_id))

    def swap(
        self,
        model: str,
        mode: SwapMode = "auto",
        *,
        on_progress: ProgressCallback | None = None,
        request_id: str | None = None,
    ) -> SwapReport:
        """Seats a model and reports what it took; the callback runs in this thread."""
        flow = self._loop.call(lambda: self._client.start_swap(model, mode, request_id=request_id))
        while (progress := self._loop.run(flow.next())) is not None:
            if on_progress is not None:
                on_progress(progress)
        return self._loop.run(flow.result())

    def reload(self) -> ReloadView:
        """Has the daemon read its settings again; a wrong file changes nothing."""
        return self._loop.run(self._client.reload())

    def release(self, for_s: float | None = None, model: str | None = None) -> ReleaseView:
        """Has the seat given up; contexts are kept. With `for_s`, requests leave it empty.

        With `model`, only if that model holds it then: `not_seated` otherwise.
        """
        return self._loop.run(self._client.release(for_s, model))

    def quote(
        self,
        models: Sequence[str],
        session: str | None = None,
        messages: Sequence[MessageLike] | None = None,
    ) -> list[QuoteView]:
        """What a request of each model would cost now, for a session or for messages."""
        return self._loop.run(self._client.quote(models, session, messages))

    def why(self, limit: int = 10) -> list[WhyView]:
        """The last swaps with who caused them, newest first."""
        return self._loop.run(self._client.why(limit))

    def status(self) -> StatusView:
        """State of seat, worker, queue and memory."""
        return self._loop.run(self._client.status())

    def models(self) -> list[ModelView]:
        """Registered models."""
        return self._loop.run(self._client.models())

    def plan(
        self, model: str, ram_bytes: int | None = None, working_set_bytes: int | None = None
    ) -> PlanView:
        """Memory plan of a model, here or on a machine with so much memory; nothing is loaded."""
        return self._loop.run(self._client.plan(model, ram_bytes, working_set_bytes))

    def events(self, since: int | None = None, topics: Sequence[str] = ()) -> EventStream:
        """Events behind `since`, or from now on."""
        return EventStream(self._loop, self._loop.call(lambda: self._client.events(since, topics)))

    def shutdown(self) -> None:
        """Asks the daemon to stop; returns when it said yes or is gone."""
        self._loop.run(self._client.shutdown())
