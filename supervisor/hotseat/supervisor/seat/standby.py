"""The standby: a worker process without weights, started ahead so that a swap loads weights only.

Owns that process until it is promoted. Decides nothing about swaps.
"""

import asyncio
import signal
import time
from typing import Final, Protocol

import structlog

from hotseat.protocol.exits import EX_GPU
from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_orders import CountPrompt, HoldBlank, Prepare, Reseat
from hotseat.protocol.link_reports import (
    PREPARING,
    Beat,
    Counted,
    FromWorker,
    KernelsWarmed,
    Prepared,
    WorkerHello,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import Residence
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.leftover_processes import new_mark
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.ports.worker_link import WorkerLink
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.worker_process import WorkerExit, WorkerProcess, spawn_worker
from hotseat.supervisor.settings.home import Home

START_DELAY_S: Final = 0.5
"""After a model is seated: its first tokens are worth more than the next swap."""
LOOK_S: Final = 0.2
LONGEST_DELAY_S: Final = 5.0
"""Prompts are waited for so long. Starting takes a second of processor time: on two cores that
compute the model as well, a prompt of 232 tokens of a 1 GB model took 1 s longer beside it. It is
nothing beside a prompt that takes longer than this."""
START_S: Final = 60.0
"""A standby that has not said hello by then never will."""
MAX_EARLY_DEATHS: Final = 3
BACK_OFF_S: Final = 5.0
log = structlog.get_logger()


class Seatable:
    """A started worker that can be seated: process, link, and its hello once it came."""

    def __init__(self, epoch: Epoch, link: WorkerLink, process: WorkerProcess) -> None:
        self.epoch = epoch
        self.link = link
        self.process = process
        self.prepared: dict[str, int] = {}
        self.blank_bytes = 0
        self.started_at = time.monotonic()
        self.has_acted = False
        """True when it said anything about a model since it was taken."""

    @property
    def hello(self) -> WorkerHello | None:
        """Its hello, if it came and shows the secret."""
        hello = self.link.hello
        return hello if hello is not None and hello.token == self.process.secret else None

    @property
    def is_greeted(self) -> bool:
        """True when its libraries are loaded."""
        return self.hello is not None

    def reseat(self, epoch: Epoch) -> None:
        """Makes it the worker of another epoch than it was started for."""
        if epoch == self.epoch:
            return
        self.link.send(Reseat(epoch=epoch))
        self.epoch = epoch
        self.link.epoch = epoch
        self.process.epoch = epoch


class StandbyHost(Protocol):
    """Whose workers the standby starts and keeps ready."""

    @property
    def awaits_first_token(self) -> bool:
        """True while the seated worker computes a prompt."""

    def worker_counted(self, answer: Counted) -> None:
        """What any worker counted, also one that was promoted meanwhile."""

    def standby_greeted(self, hello: WorkerHello) -> None:
        """The libraries of the standby are loaded."""

    def receive(self, link: WorkerLink, epoch: Epoch, message: FromWorker) -> None:
        """A message of a worker that is not the standby any more."""

    def reaped(self, ended: WorkerExit) -> None:
        """A worker that was no standby, or not for long, has ended."""


class Standby:
    """Keeps one worker ready. Its own memory is noted in `own`; its frames wake `rhythm`."""

    def __init__(
        self,
        home: Home,
        seat: Seat,
        lock: SeatLock,
        own: OwnMemory,
        rhythm: Rhythm,
        host: StandbyHost,
        *,
        enabled: bool,
    ) -> None:
        self._home = home
        self._seat = seat
        self._lock = lock
        self._own = own
        self._rhythm = rhythm
        self._host = host
        self.enabled = enabled
        self._ready: Seatable | None = None
        self._taken: Seatable | None = None
        self._numbers = 0
        self._deaths = 0
        self._warms_kernels = True
        self._starting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._ready.process.pid if self._ready is not None else None

    @property
    def is_greeted(self) -> bool:
        """True when a swap can start from it at once."""
        return self._ready is not None and self._ready.is_greeted

    async def start_worker(self, epoch: Epoch) -> Seatable:
        """A worker process of its own for `epoch`. Raises OSError."""
        self._numbers += 1
        path = self._home.socket_path(f"link-{self._numbers}")
        link = WorkerLink(path, epoch, self._receive)
        try:
            mark = new_mark(self._home.root)
            fds = (self._lock.fileno(),)
            process = await spawn_worker(link.path, epoch, self._reaped, mark, fds)
        except BaseException:
            link.close()
            raise
        return Seatable(epoch, link, process)

    async def take(self, epoch: Epoch, *, is_outdated: bool = False) -> Seatable | None:
        """The standby as the worker of `epoch`, or None if there is none to take.

        One that `is_outdated`, since the machine was changed after it had started, is ended.
        """
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        taken, self._ready = self._ready, None
        if taken is None:
            return None
        is_mute = not taken.is_greeted and time.monotonic() - taken.started_at > START_S
        if is_mute or is_outdated:
            log.warning("standby.given_up", pid=taken.process.pid)
            taken.process.epoch = Epoch(0)  # its end is nobody's
            taken.process.signal(signal.SIGKILL)
            taken.link.close()
            self._note_held()
            return None
        taken.reseat(epoch)
        self._own.taken_bytes = self._own.standby_bytes
        self._taken = taken
        self._note_held()
        return taken

    def start_soon(self, delay_s: float = START_DELAY_S) -> None:
        """Starts the next standby after a moment, unless there is one."""
        if not self.enabled or self._ready is not None or self._timer is not None:
            return
        self._look_in(delay_s, latest=time.monotonic() + LONGEST_DELAY_S)

    def prepare(
        self,
        record: ModelRecord,
        *,
        warm_pages: bool,
        residence: Residence | None = None,
        free_floor_bytes: int,
        kernels_limit_bytes: int = 0,
    ) -> None:
        """Tells the standby what may be next."""
        ready = self._ready
        if ready is None or not ready.is_greeted:
            return
        if record.name in ready.prepared and not warm_pages:
            return
        ready.prepared[record.name] = 0
        ready.link.send(
            Prepare(
                record=record,
                warm_pages=warm_pages,
                residence=residence,
                free_floor_bytes=free_floor_bytes,
                kernels_limit_bytes=kernels_limit_bytes if self._warms_kernels else 0,
            )
        )

    def _note_held(self) -> None:
        """Touched ahead for weights: by the standby, and by the last one until they are loaded."""
        own, both = self._own, [one for one in (self._ready, self._taken) if one is not None]
        own.ready_bytes = sum(one.blank_bytes for one in both)
        if self._taken is None or self._taken.has_acted:
            own.taken_pid, own.taken_bytes = None, 0
        else:
            own.taken_pid = self._taken.process.pid
        own.standby_pid = self.pid
        if both:
            own.tokenizers_of = both[0].prepared.keys()
        if self._ready is None:
            own.standby_bytes = 0

    def hold_blank(self, size_bytes: int, free_floor_bytes: int) -> None:
        """Has the standby touch memory for weights while there is room, or let go of it (0)."""
        if self._ready is not None and self._ready.is_greeted:
            order = HoldBlank(size_bytes=size_bytes, free_floor_bytes=free_floor_bytes)
            self._ready.link.send(order)

    def has_prepared(self, model: str) -> bool:
        """True when it has the tokenizer of a model, or is loading it."""
        return self._ready is not None and model in self._ready.prepared

    def send(self, order: CountPrompt) -> bool:
        """Asks the standby something; False when there is none that listens."""
        ready = self._ready
        if ready is None or not ready.is_greeted:
            return False
        ready.prepared.setdefault(order.record.name, 0)
        return ready.link.send(order)

    async def close(self) -> None:
        """Ends the standby; there is nothing in it to lose."""
        self.enabled = False
        if self._timer is not None:
            self._timer.cancel()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._ready is not None:
            self._ready.process.signal(signal.SIGKILL)
            await self._ready.process.wait()

    def _look_in(self, delay_s: float, latest: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._start, latest)

    def _start(self, latest: float) -> None:
        self._timer = None
        if self._host.awaits_first_token and time.monotonic() < latest:
            self._look_in(LOOK_S, latest)
            return
        epoch = self._seat.next_epoch
        if epoch is None:
            return  # asked for again when the swap is over
        if self._seat.code.is_replaced:
            log.warning("standby.not_started", error=self._seat.code.notice(time.monotonic()))
            return  # it could not be seated
        if self.enabled and self._ready is None and self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start_now(epoch))

    async def _start_now(self, epoch: Epoch) -> None:
        try:
            started = await self.start_worker(epoch)
        except OSError as error:
            log.warning("standby.not_started", error=str(error))
            return
        finally:
            self._starting = None
        self._ready = started
        self._note_held()
        log.info("standby.started", pid=started.process.pid)

    def _receive(self, link: WorkerLink, epoch: Epoch, message: FromWorker) -> None:
        self._rhythm.take_chance()  # the process is awake anyway
        if isinstance(message, Counted):
            self._host.worker_counted(message)
            return
        ready, taken = self._ready, self._taken
        if ready is None or link is not ready.link:
            if taken is not None and link is taken.link:
                self._note_taken(taken, message)
            self._host.receive(link, epoch, message)
            return
        self._note_ready(ready, message)

    def _note_ready(self, ready: Seatable, message: FromWorker) -> None:
        match message:
            case WorkerHello():
                if not self._seat.code.is_of(message.code):
                    log.warning("standby.of_other_code", pid=message.pid)
                    self._deaths = MAX_EARLY_DEATHS  # another one would be of that code too
                    ready.process.signal(signal.SIGKILL)
                elif ready.is_greeted:
                    self._deaths = 0
                    self._host.standby_greeted(message)
            case Prepared():
                ready.prepared[message.model] = message.warmed_bytes
                log.info("standby.prepared", model=message.model, warmed_bytes=message.warmed_bytes)
            case KernelsWarmed():
                _tell_kernels(message)
            case Beat():
                ready.blank_bytes = message.blank_bytes
                if message.phase == PREPARING:
                    # Layers for kernels go before weights come, so they take no room from these.
                    ready.blank_bytes += message.active_bytes + message.cache_bytes
                self._note_held()
            case _:
                pass

    def _note_taken(self, taken: Seatable, message: FromWorker) -> None:
        match message:
            case Beat():
                taken.blank_bytes = message.blank_bytes
                self._note_held()
            case WorkerHello() | Prepared():
                pass
            case KernelsWarmed():
                _tell_kernels(message)
            case _ if not taken.has_acted:
                taken.has_acted = True
                self._note_held()
            case _:
                pass

    def is_untried(self, pid: int | None) -> bool:
        """True for a worker that was the standby and said nothing about a model since."""
        taken = self._taken
        return taken is not None and taken.process.pid == pid and not taken.has_acted

    def _reaped(self, ended: WorkerExit) -> None:
        if self._taken is not None and self._taken.process.pid == ended.pid:
            self._taken = None
            self._note_held()
        ready = self._ready
        if ready is None or ready.process.pid != ended.pid:
            self._host.reaped(ended)
            return
        ready.link.close()
        self._ready = None
        self._note_held()
        if not self.enabled:
            return
        self._deaths += 1
        log.warning("standby.exited", pid=ended.pid, returncode=ended.returncode)
        if ended.returncode == EX_GPU and self._warms_kernels:
            # Nothing else of a standby uses the GPU: the next one would end in the same place.
            self._warms_kernels = False
            log.warning("standby.kernels_given_up")
        if self._deaths <= MAX_EARLY_DEATHS:
            self.start_soon(BACK_OFF_S * self._deaths)


def _tell_kernels(message: KernelsWarmed) -> None:
    if message.left_out:
        log.warning("standby.kernels_left_out", model=message.model, reason=message.left_out)
    else:
        log.info(
            "standby.kernels_warmed",
            model=message.model,
            seconds=round(message.seconds, 3),
            longest_s=round(message.longest_s, 3),
        )
