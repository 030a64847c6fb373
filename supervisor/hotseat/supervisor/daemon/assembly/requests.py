"""From accept to end: table, output, sessions, KV, what runs and what the worker says of it."""

from msgspec import Struct

from hotseat.supervisor.daemon.assembly.ground import Ground
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
from hotseat.supervisor.requests.works import Works


class Requests(Struct, frozen=True, kw_only=True):
    """Requests, their sessions and their KV."""

    works: Works
    abandoned: Abandoned
    outbox: Outbox
    sessions: SessionStore
    turns: TurnPlanner
    keeper: KvKeeper
    suspended: SuspendedRuns
    quiet: QuietSessions
    runs: WorkRuns
    reports: WorkerReports


def make_requests(ground: Ground) -> Requests:
    """From accept to end: table, output, sessions, KV, what runs and what the worker says of it."""
    seat, events, settings = ground.seat, ground.events, ground.settings
    works = Works()
    abandoned = Abandoned(works)
    outbox = Outbox(works, ground.port, abandoned, settings)
    sessions = SessionStore(ground.catalogue)
    turns = TurnPlanner(sessions, ground.planner)
    keeper = KvKeeper(ground.catalogue, ground.home.kv_dir, events, seat.send)
    suspended = SuspendedRuns(ground.catalogue, keeper, seat)
    quiet = QuietSessions(works, seat, settings)
    ends = WorkEnds(
        works=works,
        catalogue=ground.catalogue,
        sessions=sessions,
        keeper=keeper,
        suspended=suspended,
        outbox=outbox,
        events=events,
        quiet=quiet,
    )
    runs = WorkRuns(
        works=works,
        turns=turns,
        ends=ends,
        suspended=suspended,
        outbox=outbox,
        events=events,
        seat=seat,
    )
    reports = WorkerReports(
        works=works, runs=runs, ends=ends, outbox=outbox, events=events, seat=seat
    )
    return Requests(
        works=works,
        abandoned=abandoned,
        outbox=outbox,
        sessions=sessions,
        turns=turns,
        keeper=keeper,
        suspended=suspended,
        quiet=quiet,
        runs=runs,
        reports=reports,
    )
