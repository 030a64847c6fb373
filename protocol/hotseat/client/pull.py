"""The consumer's side of an exchange for a thread of its own: one wake-up an item, no coroutine.

The event loop's thread puts items into the exchange and rings; this one takes them out. Must not
know sockets; whatever has to be sent is done on the loop's thread.
"""

import queue
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from hotseat.client.flow import Flow

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pull(Generic[Item, Result]):
    """Takes items one by one. An interrupted wait loses none: they are taken after it."""

    def __init__(
        self, flow: Flow[Item, Result], begin_call: Callable[[Callable[[], None]], None]
    ) -> None:
        """`begin_call` runs a function on the loop's thread."""
        self._flow = flow
        self._exchange = flow.exchange
        self._begin_call = begin_call
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._untold_bytes = 0
        self._wake_loop = self._exchange.wake
        # Items that came before are found by the first look, which comes before the first wait.
        self._exchange.wake = self._ring

    def next(self, timeout_s: float | None = None) -> Item | None:
        """The next item; None at a good end. Raises the error of a bad one, or TimeoutError."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # Looked at first: the end comes after the last item.
            is_over = self._exchange.is_over
            found = self._exchange.pop()
            if found is not None:
                item, cost_bytes = found
                self._note_consumed(cost_bytes)
                return item
            if is_over:
                if self._exchange.error is not None:
                    raise self._exchange.error
                return None
            self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            self._bell.get(timeout=left_s)
        except queue.Empty:
            raise TimeoutError from None

    def _ring(self) -> None:
        self._wake_loop()
        # A ring that was not heard yet stands for this one too.
        if self._bell.empty():
            self._bell.put(None)

    def _note_consumed(self, cost_bytes: int) -> None:
        """Tells the loop's thread when that brings a grant; a call for every item would cost."""
        self._untold_bytes += cost_bytes
        if self._untold_bytes and self._exchange.is_worth_telling(self._untold_bytes):
            told_bytes, self._untold_bytes = self._untold_bytes, 0
            self._begin_call(lambda: self._flow.tell_consumed(told_bytes))
