"""What the seat runner needs from the daemon, and what it measures of a swap. No behaviour."""

from typing import Protocol

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_reports import FromWorker
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import SwapMemory
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Fault, SeatState
from hotseat.supervisor.seat.rules.wired import Strands
from hotseat.supervisor.seat.worker_process import WorkerExit


class SeatHost(Protocol):
    """What the daemon does when the seat says so."""

    @property
    def up_next(self) -> str | None:
        """The model that probably gets the seat next."""

    @property
    def awaits_first_token(self) -> bool:
        """True while a request is with the worker that has no token of it yet."""

    def admission_changed(self) -> None:
        """Requests may start, or they may not: then the last one's end ends the drain."""

    def suspend_running(self) -> None:
        """Running requests leave at the next token and wait for their model."""

    def cancel_running(self) -> None:
        """End running requests at the next token."""

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone."""

    async def contexts_committed(self) -> HotseatError | None:
        """Waits until all that was written is in the catalogue; the fault if something is not."""

    def worker_said(self, message: FromWorker, record: ModelRecord) -> bool:
        """A message that concerns requests or KV; True if a request got further than ever."""

    def worker_exited(self, ended: WorkerExit) -> None:
        """A worker process was reaped."""

    def exit(self) -> None:
        """The daemon may end."""


class SeatNews(Protocol):
    """Who is told what the seat does."""

    def phase_changed(self, state: SeatState) -> None:
        """The seat entered another phase."""

    def load_advanced(self, model: str, bytes_done: int, bytes_total: int) -> None:
        """More weights are in memory."""

    def swap_done(self, done: t.SwapDone, figures: "SwapFigures") -> None:
        """A swap succeeded."""

    def swap_failed(self, failed: t.SwapFailed) -> None:
        """A swap did not happen."""

    def worker_exited(self, ended: WorkerExit, fault: Fault, *, asked: bool) -> None:
        """A worker process was reaped; `asked`: it was told to end."""

    def pages_judged(self, strands: Strands) -> None:
        """Memory after the end of a worker was looked at."""


class SwapFigures:
    """What was measured during a swap, beside the phases."""

    def __init__(self) -> None:
        self.available_before = 0
        self.available_after = 0
        self.wired_before: int | None = None
        self.wired_after: int | None = None
        self.wired_not_back: int | None = None
        self.unwire_s: float | None = None
        self.sessions = 0
        self.bytes_written = 0

    @property
    def memory(self) -> SwapMemory:
        """For the report."""
        return SwapMemory(
            available_before=self.available_before,
            available_after=self.available_after,
            wired_before=self.wired_before,
            wired_after=self.wired_after,
            wired_not_back_bytes=self.wired_not_back,
            unwire_s=self.unwire_s,
        )


def fault_of(error: HotseatError) -> Fault:
    """An error of the table as a fault of the seat."""
    return Fault(code=error.code, message=error.message, facts=error.facts)
