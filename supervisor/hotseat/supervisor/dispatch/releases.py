"""Giving the seat up on purpose: `release`, and `keep_alive` when nothing was asked for long.

Holds what is asked; the dispatcher begins it when the seat is settled.
"""

import asyncio
import time

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Cause
from hotseat.protocol.views import ReleaseView
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.rules.states import Fault, SwapPlan


class Releases:
    """At most one release is under way; who asks meanwhile gets the same answer."""

    def __init__(self) -> None:
        self._asked: Cause | None = None
        self._number: int | None = None
        self._began_at = 0.0
        self._waiters: list[tuple[asyncio.Future[ReleaseView], str | None]] = []
        self.until: float | None = None
        """Unix time before which nothing is seated by requests."""

    @property
    def is_asked(self) -> bool:
        """True while a release waits to begin."""
        return self._asked is not None

    def refuses(self, now: float) -> float | None:
        """Seconds for which requests are refused; None when they are not. `now` is Unix time."""
        if self.held_until(now) is None:
            self.until = None
        return None if self.until is None else self.until - now

    def held_until(self, now: float) -> float | None:
        """Unix time until which requests leave the seat empty; None when they do not."""
        return None if self.until is None or now >= self.until else self.until

    def ask(
        self, cause: Cause, for_s: float | None, model: str | None = None
    ) -> "asyncio.Future[ReleaseView]":
        """The answer comes when the seat is empty; `model`: only if that one holds it then."""
        if for_s is not None:
            self.until = time.time() + for_s
        waiter: asyncio.Future[ReleaseView] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(_seen)
        self._waiters.append((waiter, model))
        if self._number is None:
            self._asked = self._asked or cause
        return waiter

    def end_hold(self) -> None:
        """Somebody asked for the seat by name: what was held back may go on."""
        self.until = None

    def begin(self, number: int, seated: str | None) -> SwapPlan | None:
        """The plan to feed to the seat, if somebody means the model that holds it."""
        cause, self._asked = self._asked, None
        self._refuse_others(seated)
        if cause is None or not self._waiters:
            return None
        self._number, self._began_at = number, time.monotonic()
        return SwapPlan(swap=number, target=None, cause=cause)

    def nothing_seated(self) -> None:
        """There was nothing to give up."""
        self._asked = None
        self._refuse_others(None)
        self._answer(ReleaseView(released=None, until=self.until))

    def done(self, number: int, origin: str | None, figures: SwapFigures) -> None:
        """The seat is empty."""
        if number != self._number:
            return
        self._number = None
        self._refuse_others(origin)
        self._answer(
            ReleaseView(
                released=origin,
                sessions_checkpointed=figures.sessions,
                bytes_written=figures.bytes_written,
                total_s=round(time.monotonic() - self._began_at, 3),
                available_before=figures.available_before,
                available_after=figures.available_after,
                until=self.until,
            )
        )

    def failed(self, number: int, fault: Fault) -> None:
        """The seat could not be given up; the old model serves on."""
        if number != self._number:
            return
        self._number, self.until = None, None
        self._fail(HotseatError(fault.code, fault.message, **fault.facts))

    def end_all(self, error: HotseatError) -> None:
        """The daemon stops: whoever waits for a release that has not begun is told so."""
        self._asked = None
        if self._number is None:
            self._fail(error)

    def _refuse_others(self, seated: str | None) -> None:
        """Whoever named another model than the one that gives the seat up is told so."""
        others = [(w, model) for w, model in self._waiters if model not in {None, seated}]
        self._waiters = [entry for entry in self._waiters if entry not in others]
        if others and not self._waiters:
            self.until = None
        for waiter, model in others:
            if not waiter.done():
                text = f"{model} is not seated ({seated or 'nobody'} is)"
                waiter.set_exception(HotseatError("not_seated", text, seated=seated))

    def _fail(self, error: HotseatError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def _answer(self, view: ReleaseView) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_result(view)


def _seen(waiter: "asyncio.Future[ReleaseView]") -> None:
    """Nobody may wait (`keep_alive`): the error then is in the events, not in asyncio's log."""
    if not waiter.cancelled():
        waiter.exception()
