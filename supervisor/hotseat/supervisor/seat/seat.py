"""The seat as everybody may see it, and the way to the worker that has it. Decides nothing.

This package writes it, by its table and by what the worker says; others read, and send to the
worker.
"""

import time
from collections import deque

from hotseat.protocol.ids import Epoch, ModelName, SessionName
from hotseat.protocol.link_orders import ToWorker
from hotseat.protocol.link_reports import Beat, FromWorker, LoadProgress
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.streamed_contexts import Reading
from hotseat.supervisor.machine.running_code import RunningCode
from hotseat.supervisor.ports.worker_link import WorkerLink
from hotseat.supervisor.seat.rules.states import SETTLED, Phase, SeatState
from hotseat.supervisor.seat.worker_process import WorkerProcess


class Seat:
    """One per daemon; empty at first."""

    def __init__(self, code: RunningCode | None = None) -> None:
        self.code = code or RunningCode()
        """What its workers have to be made of."""
        self.state = SeatState(since=time.monotonic())
        self.record: ModelRecord | None = None
        """What the worker has loaded, or is loading."""
        self.kv_budget_bytes: int | None = None
        self.resident_bytes = 0
        """Weights in memory while a model is loaded: all of them, but of one that does not fit."""
        self.streamed: StreamedView | None = None
        """Of the loaded model, if it is one that does not fit; its speed as it was planned."""
        self.contexts: Reading | None = None
        """What reading its contexts costs that do not fit, as planned; None: they are refused."""
        self.limit_bytes: int | None = None
        """What the worker was planned with, all in all."""
        self.beat: Beat | None = None
        """The newest of this worker."""
        self.heard = 0
        """Frames of seated workers so far."""
        self.said = 0
        """The same without beats."""
        self.load = LoadProgress(bytes_done=0, bytes_total=0)
        """The newest there was."""
        self.seated_before: deque[str] = deque(maxlen=2)
        """Models that held the seat most recently, the newest last."""
        self.link: WorkerLink | None = None
        self.process: WorkerProcess | None = None

    @property
    def worker_pid(self) -> int | None:
        """Of the worker that lives, if one does."""
        return self.process.pid if self.process is not None else None

    @property
    def admits(self) -> bool:
        """True when requests for the seated model may start."""
        return self.state.phase is Phase.READY

    @property
    def seated(self) -> str | None:
        """The model that takes requests, if one does."""
        return self.state.model if self.admits else None

    @property
    def serving_epoch(self) -> int | None:
        """Epoch of the worker that takes requests, those it is draining included."""
        serves = self.state.phase in {Phase.READY, Phase.DRAINING}
        return self.state.epoch if serves else None

    @property
    def next_epoch(self) -> Epoch | None:
        """Of the next worker; None while a swap is under way."""
        return Epoch(self.state.epoch + 1) if self.state.phase in SETTLED else None

    @property
    def live_sessions(self) -> frozenset[tuple[ModelName, SessionName]]:
        """Sessions whose KV the worker holds, as of its last beat."""
        if self.record is None or self.beat is None:
            return frozenset()
        model = ModelName(self.record.name)
        return frozenset((model, SessionName(name)) for name in self.beat.live_sessions)

    def send(self, message: ToWorker) -> bool:
        """To the worker; False when there is none or it does not read."""
        return self.link is not None and self.link.send(message)

    def hear(self, message: FromWorker) -> None:
        """Counts a frame of the worker: signs of life, and of getting on."""
        self.heard += 1
        match message:
            case Beat():
                self.beat = message
                return
            case LoadProgress():
                self.load = message
            case _:
                pass
        self.said += 1
