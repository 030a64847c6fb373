"""A request that leaves its worker while that dies: it must not be in two places."""

import threading
import time
from types import SimpleNamespace

import pytest
from tests.support.models.records import accept_record, model_record

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_reports import Started, Suspended
from hotseat.protocol.messages import Generate
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.requests.abandoned import Abandoned
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.quiet_sessions import QuietSessions
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.turn_planner import TurnPlanner
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

KEY = RequestKey(accept_record().key)
STARTED = Started(
    request=KEY,
    prompt_tokens=2,
    restored_tokens=0,
    computed_tokens=2,
    live_tokens=0,
    own_tokens=0,
    restore_s=0.0,
    rendered=False,
    prompt=pack_tokens([1, 2]),
)
SUSPENDED = Suspended(
    request=KEY, hold_as=".run-x", context=pack_tokens([1, 2]), hint=b"", completion_tokens=0
)
KILLED = Fault(code="worker_lost", message="the worker was killed")


class NoEvents:
    def publish(self, name, **facts):
        pass


class Desk:
    """One running request, and a catalogue that can be held up as a slow disk would."""

    def __init__(self, catalogue, kv_dir):
        self.catalogue = catalogue
        self.sent = []
        works, settings = Works(), Settings()
        seat = Seat()
        seat.state = SeatState(phase=Phase.READY, model="m", epoch=1)
        seat.record = model_record()
        seat.link = SimpleNamespace(send=self.sent.append)
        keeper = KvKeeper(catalogue, kv_dir, NoEvents(), seat.send, lambda *_: None)
        sessions = SessionStore(catalogue)
        outbox = Outbox(works, None, Abandoned(works), settings)
        suspended = SuspendedRuns(catalogue, keeper, seat)
        ends = WorkEnds(
            works=works,
            catalogue=catalogue,
            sessions=sessions,
            keeper=keeper,
            suspended=suspended,
            outbox=outbox,
            events=NoEvents(),
            quiet=QuietSessions(works, seat, settings, keeper.days),
        )
        self.runs = WorkRuns(
            works=works,
            abandoned=Abandoned(works),
            turns=TurnPlanner(sessions, SimpleNamespace(settings=settings)),
            ends=ends,
            suspended=suspended,
            outbox=outbox,
            events=NoEvents(),
            seat=seat,
        )
        self.reports = WorkerReports(
            works=works, runs=self.runs, ends=ends, outbox=outbox, events=NoEvents(), seat=seat
        )
        self.work = works.create(KEY, "r1", "c", Generate(model="m", prompt="x"))
        self.work.record = model_record()
        self.work.started = STARTED
        self.work.state = WorkState.RUNNING
        self.work.accepted_at = time.monotonic()

    def hold_up(self):
        """What is asked of the catalogue from now on waits for the event that is returned."""
        gate = threading.Event()
        held = self.catalogue._thread.call(lambda _db: gate.wait(20))
        return gate, held


@pytest.fixture
async def desk(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    await catalogue.accept(accept_record())
    yield Desk(catalogue, tmp_path / "kv")
    await catalogue.close()


async def suspend_while_the_worker_dies(desk):
    gate, held = desk.hold_up()
    desk.reports.hear(SUSPENDED)
    desk.runs.running_lost(KILLED)
    desk.runs.start(KEY)
    state = desk.work.state
    gate.set()
    await held
    await desk.runs.settle()
    return state


async def test_request_that_is_being_suspended_is_not_started_again_by_a_death(desk):
    assert await suspend_while_the_worker_dies(desk) is WorkState.STARTING
    assert desk.sent == []
    assert desk.work.is_suspended


async def test_request_that_is_being_suspended_is_not_blamed_for_a_death(desk):
    await suspend_while_the_worker_dies(desk)
    assert not desk.work.suspicion.is_suspect


async def test_request_cancelled_while_it_is_being_suspended_ends_once(desk):
    gate, held = desk.hold_up()
    desk.reports.hear(SUSPENDED)
    assert desk.runs.cancel(desk.work)
    gate.set()
    await held
    await desk.runs.settle()
    assert desk.work.state is WorkState.ENDED
    assert desk.work.end.finish_reason == "cancelled"
