"""The client for ordinary programs: the asyncio client on a thread of its own.

The thread keeps pinging and receiving while the caller computes. It may be used from several
threads at once. It adds no behaviour: everything that is decided is decided in `aio`, whose methods
it has.
"""

import asyncio
import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from hotseat.client.aio import RECONNECT_S, AsyncClient, SwapMode
from hotseat.client.blocking import Blocking, blocking
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.flow import AsyncEvents, AsyncStream, ProgressCallback, StreamFacts, text_of
from hotseat.client.pull import Pull
from hotseat.client.verbs import CALL_S, Verbs
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

P = ParamSpec("P")
T = TypeVar("T")
Awaited = TypeVar("Awaited")
Waited = TypeVar("Waited")
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


class Stream(StreamFacts):
    """One generation: iterate it for chunks, ask it for its result, leave it to cancel."""

    def __init__(self, loop: _LoopThread, stream: AsyncStream) -> None:
        super().__init__(stream.completion)
        self._loop = loop
        self._stream = stream
        self._pull = Pull(stream.flow, loop.begin_call)

    def next_event(self) -> Accepted | Progress | Chunk | None:
        """Next item of any kind; None at the end. Progress goes to the callback, in this thread."""
        event = self._pull.next()
        if isinstance(event, Progress) and self._stream.on_progress is not None:
            self._stream.on_progress(event)
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

    def __exit__(self, *_: object) -> None:
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

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._events.leave())


def _opening(
    method: Callable[Concatenate[AsyncClient, P], Awaited],
    kind: Callable[[_LoopThread, Awaited], Waited],
) -> Callable[Concatenate["Client", P], Waited]:
    """The method that opens what the asyncio client opens, to be waited for: a stream, events."""

    @functools.wraps(method)
    def opened(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Waited:
        opening = functools.partial(method, self._client, *args, **kwargs)
        return kind(self._loop, self._loop.call(opening))

    signature = inspect.signature(method).replace(return_annotation=kind)
    opened.__dict__["__signature__"] = signature
    return opened


class Client(Blocking):
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
        self._verbs = self._client
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

    def __exit__(self, *_: object) -> None:
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

    generate = _opening(AsyncClient.generate, Stream)
    attach = _opening(AsyncClient.attach, Stream)
    events = _opening(AsyncClient.events, EventStream)

    def swap(
        self,
        model: str,
        mode: SwapMode = "auto",
        *,
        force: bool = False,
        unload_others: bool = False,
        on_progress: ProgressCallback | None = None,
        request_id: str | None = None,
    ) -> SwapReport:
        """Seats a model and reports what it took; the callback runs in this thread."""
        flow = self._loop.call(
            lambda: self._client.start_swap(
                model, mode, force=force, unload_others=unload_others, request_id=request_id
            )
        )
        while (progress := self._loop.run(flow.next())) is not None:
            if on_progress is not None:
                on_progress(progress)
        return self._loop.run(flow.result())

    status = blocking(Verbs.status)
    models = blocking(Verbs.models)
    plan = blocking(Verbs.plan)
    quote = blocking(Verbs.quote)
    why = blocking(Verbs.why)
    reload = blocking(Verbs.reload)
    release = blocking(Verbs.release)
    cancel = blocking(Verbs.cancel)
    shutdown = blocking(Verbs.shutdown)
    sessions = blocking(Verbs.sessions)
    session = blocking(Verbs.session)
    delete_session = blocking(Verbs.delete_session)
    fork_session = blocking(Verbs.fork_session)
    copy_session = blocking(Verbs.copy_session)
    rewind_session = blocking(Verbs.rewind_session)
    replace_session = blocking(Verbs.replace_session)
    pin_session = blocking(Verbs.pin_session)
    count = blocking(Verbs.count)
    disk = blocking(Verbs.disk)
    verify_kv = blocking(Verbs.verify_kv)
    collect_kv = blocking(Verbs.collect_kv)
