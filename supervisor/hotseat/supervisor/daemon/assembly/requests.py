"""From accept to end: table, output, sessions, KV, what runs and what the worker says of it."""

from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.requests.abandoned import Abandoned
from hotseat.supervisor.requests.deferred_blocks import DeferredBlocks
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.quiet_sessions import QuietSessions
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.turn_planner import TurnPlanner
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works


class Requests:
    """Requests, their sessions and their KV."""

    def __init__(self, ground: Ground) -> None:
        seat, events, settings = ground.seat, ground.events, ground.settings
        self.works = Works()
        self.abandoned = Abandoned(self.works)
        self.outbox = Outbox(self.works, ground.port, self.abandoned, settings)
        self.sessions = SessionStore(ground.catalogue)
        self.turns = TurnPlanner(self.sessions, ground.planner)
        self.keeper = KvKeeper(
            ground.catalogue, ground.home.kv_dir, events, seat.send, self.sessions.note_change
        )
        self.suspended = SuspendedRuns(ground.catalogue, self.keeper, seat)
        self.quiet = QuietSessions(self.works, seat, settings, self.keeper.days)
        self.deferred = DeferredBlocks(seat, self.keeper.days)
        ends = WorkEnds(
            works=self.works,
            catalogue=ground.catalogue,
            sessions=self.sessions,
            keeper=self.keeper,
            suspended=self.suspended,
            outbox=self.outbox,
            events=events,
            quiet=self.quiet,
        )
        self.runs = WorkRuns(
            works=self.works,
            abandoned=self.abandoned,
            turns=self.turns,
            ends=ends,
            suspended=self.suspended,
            outbox=self.outbox,
            events=events,
            seat=seat,
        )
        self.reports = WorkerReports(self.works, self.runs, ends, self.outbox, events, seat)
