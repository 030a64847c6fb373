"""Reports on their way to the link: which may wait a moment, and what leaves as one frame.

A token costs the processes behind this one as much as a frame does, so tokens that come faster
than anyone reads share a frame. Must not know sockets or what reports mean, but for output.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link import Emitted, FromWorker

FAST_S: Final = 0.0025
"""A token that follows the one before it in less waits for company; a slower one leaves alone."""
HOLD_S: Final = 0.008
"""No token waits longer for company."""
MAX_JOINED: Final = 256
"""Reports looked at to be joined: a frame stays small however long the link took nothing."""
_REMEMBERED: Final = 64

Queued = tuple[Epoch, FromWorker]


class Outflow:
    """A queue with one reader, the link thread. `put` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: deque[Queued] = deque()
        self._joined: deque[Queued] = deque()
        self._spoke_at: dict[RequestKey, float] = {}
        self._has_output = False
        self.looks_at = float("-inf")
        """Until then output need not wake the reader: it promised to look by itself."""

    def put(self, epoch: Epoch, message: FromWorker, now: float) -> bool:
        """Queues a report; True if its reader has to be woken for it."""
        # First of all: a reader that gives its promise up looks here once more.
        self._waiting.append((epoch, message))
        if not isinstance(message, Emitted):
            return True
        before = self._spoke_at.get(message.request)
        if before is None and len(self._spoke_at) >= _REMEMBERED:
            self._spoke_at.clear()  # costs those that still run one wake-up
        self._spoke_at[message.request] = now
        return before is None or now - before >= FAST_S or now >= self.looks_at

    def peek(self) -> Queued | None:
        """What is to be sent next; stays until `pop`."""
        if not self._joined:
            self._join()
        return self._joined[0] if self._joined else None

    def pop(self) -> None:
        """What `peek` gave has left."""
        _epoch, message = self._joined.popleft()
        self._has_output |= isinstance(message, Emitted)

    def promise(self, now: float) -> bool:
        """Called when nothing is left to send: when the reader looks again unasked, if at all.

        False if something came in while the promise was given up: it has to be sent first.
        """
        if self._has_output:
            self._has_output = False
            self.looks_at = now + HOLD_S
        elif now >= self.looks_at:
            self.looks_at = float("-inf")
            return not self._waiting
        return True

    def _join(self) -> None:
        run: list[Emitted] = []
        epoch = None
        while self._waiting and len(run) < MAX_JOINED:
            of, message = self._waiting[0]
            if not isinstance(message, Emitted) or epoch not in (None, of):
                break
            epoch = of
            run.append(message)
            self._waiting.popleft()
        if epoch is not None:
            self._joined.extend((epoch, message) for message in join_output(run))
        elif self._waiting:
            self._joined.append(self._waiting.popleft())


def join_output(reports: Sequence[Emitted]) -> list[Emitted]:
    """The same output in fewer reports; that of each request stays in order.

    Only tokens with plain text are joined: what each of them brought can be told afterwards.
    """
    groups: list[list[Emitted]] = []
    latest: dict[RequestKey, list[Emitted]] = {}
    for report in reports:
        group = latest.get(report.request)
        if not _is_plain(report):
            latest.pop(report.request, None)
            groups.append([report])
        elif group is not None:
            group.append(report)
        else:
            latest[report.request] = [report]
            groups.append(latest[report.request])
    return [group[0] if len(group) == 1 else _joined(group) for group in groups]


def _is_plain(report: Emitted) -> bool:
    return len(report.tokens) == 1 and not report.parts


def _joined(group: Sequence[Emitted]) -> Emitted:
    return Emitted(
        request=group[0].request,
        tokens=tuple(report.tokens[0] for report in group),
        text="".join(report.text for report in group),
        text_lengths=tuple(len(report.text) for report in group),
        logprobs=tuple(entry for report in group for entry in report.logprobs),
    )
