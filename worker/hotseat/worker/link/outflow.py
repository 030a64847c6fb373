"""Reports on their way to the link: which may wait a moment, and what leaves as one frame.

A token costs the processes behind this one as much as a frame does, so tokens that come faster
than anyone reads share a frame. Must not know sockets or what reports mean, but for output.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link_reports import Emitted, FromWorker

FAST_S: Final = 0.005
"""A token waits for company if it and the one before it came in less each; others leave alone. At
330 tokens a second a frame a token costs supervisor and client 0.64 ms of processor, shared
0.35."""
HOLD_S: Final = 0.016
"""How long it waits; a picture of a screen takes as long."""
LOOK_S: Final = 4 * HOLD_S
"""The thread that draws tokens sends what waits with the next one; when none comes, another
thread does that, after so long."""
MAX_JOINED: Final = 256
"""Reports looked at to be joined: a frame stays small however long the link took nothing."""
_REMEMBERED: Final = 64

Queued = tuple[Epoch, FromWorker]


class Outflow:
    """A queue. `put` may be called from any thread, `take` by one at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Queued] = deque()
        self._spoke_at: dict[RequestKey, tuple[float, bool]] = {}
        """When a request spoke last, and whether that was soon after the time before."""
        self._putting = threading.Lock()
        self._holds_until = float("-inf")
        self._has_held = False
        self.looks_at = float("inf")
        """When whatever waits is to be sent unasked; never, if nothing was held."""

    def put(self, epoch: Epoch, message: FromWorker, now: float) -> bool:
        """Queues a report; True if it is to be sent now, with all that waits."""
        with self._putting:
            self._waiting.append((epoch, message))
            if not isinstance(message, Emitted):
                return True
            known = self._spoke_at.get(message.request)
            if known is None and len(self._spoke_at) >= _REMEMBERED:
                self._spoke_at.clear()  # has two tokens of those that still run leave alone
            before, was_soon = known or (float("-inf"), False)
            is_soon = now - before < FAST_S
            self._spoke_at[message.request] = now, is_soon
            # One alone may only follow a late one: that is no pace.
            if not (is_soon and was_soon) or now >= self._holds_until:
                self._holds_until = now + HOLD_S
                return True
            self._has_held = True
            self.looks_at = min(self.looks_at, now + LOOK_S)
            return False

    def is_due(self, now: float) -> bool:
        """True when it is time to look and something waits; the next look is settled too."""
        with self._putting:
            if now < self.looks_at:
                return False
            # While tokens flow it goes on by itself: to be woken for it would cost as much.
            self.looks_at = now + LOOK_S if self._has_held else float("inf")
            self._has_held = False
            return bool(self._waiting)

    def take(self) -> list[Queued]:
        """What is to be sent next, in order; empty when nothing waits."""
        run: list[Emitted] = []
        of = Epoch(0)
        waiting = self._waiting
        while waiting and len(run) < MAX_JOINED:
            epoch, message = waiting[0]
            if not isinstance(message, Emitted) or (run and epoch != of):
                break
            of = epoch
            run.append(message)
            waiting.popleft()
        if run:
            return [(of, message) for message in join_output(run)]
        return [waiting.popleft()] if waiting else []


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
