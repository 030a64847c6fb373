"""A telling that says when its answer is complete, and is the one it stands for otherwise."""

from collections.abc import Callable

from hotseat.gateway.serving import Telling
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, Done, Progress


class Noted:
    """Another `Telling`, and `ended` is called with the end of the answer."""

    def __init__(self, telling: Telling, ended: Callable[[Done], None]) -> None:
        self._telling = telling
        self._ended = ended

    def begin(self) -> bytes:
        """As soon as the request is accepted."""
        return self._telling.begin()

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """While nothing else is to be said."""
        return self._telling.alive(progress, silent_s)

    def take(self, chunk: Chunk) -> bytes:
        """Output."""
        return self._telling.take(chunk)

    def end(self, done: Done) -> bytes:
        """A good end: known before the client can answer it."""
        self._ended(done)
        return self._telling.end(done)

    def fail(self, error: HotseatError) -> bytes:
        """A bad one."""
        return self._telling.fail(error)
