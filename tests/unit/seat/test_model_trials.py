"""What trying a model has shown goes from one worker to the next; a trial takes its time."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_reports import TRYING, Beat, ContextsTried
from hotseat.protocol.streamed_contexts import ContextTrial
from hotseat.protocol.views import PlanView
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.guards.rules.stalls import budget_s
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.works import WorkState
from hotseat.supervisor.seat.load_order import load_order
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.worker_messages import WorkerMessages
from hotseat.supervisor.settings.values import KvSettings, Settings

TRIAL = ContextTrial(under="mlx 0.32.4", why="")


def test_next_worker_of_the_model_is_told_what_the_last_one_found(tmp_path):
    planner = Planner(SimpleNamespace(), SimpleNamespace(), OwnMemory(), Settings())
    seat = Seat()
    messages = WorkerMessages(seat, None, None, planner, SimpleNamespace(feed=None))
    messages.receive(Epoch(1), ContextsTried(trial=TRIAL))
    assert planner.trials == {}, "nothing is loaded"
    seat.record = record = model_record("a")
    messages.receive(Epoch(1), ContextsTried(trial=TRIAL))
    for tag, known in ((record.tag, TRIAL), ("another", None)):
        plan, trial = PlanView(model="a", fits=True), planner.trials.get(tag)
        order = load_order(record, plan, tmp_path, KvSettings(), "off", trial)
        assert order.trial == known


@pytest.mark.parametrize("phase", ["ready", TRYING])
def test_pass_of_a_trial_may_take_as_long_as_all_weights_take_to_be_read(phase):
    """A request that the worker has just got is expected to be read, which takes less."""
    settings = Settings()
    seat = Seat()
    seat.state = SeatState(phase=Phase.READY, since=0.0, epoch=1, model="a")
    seat.record = record = model_record("a", weights_bytes=4096 * MIB)
    seat.resident_bytes, seat.kv_budget_bytes = record.weights_bytes, 1024 * MIB
    sizes = {"active_bytes": 0, "cache_bytes": 0, "peak_bytes": 0, "live_kv_bytes": 0}
    seat.beat = Beat(phase=phase, step=1, busy=True, **sizes)
    work = SimpleNamespace(
        phase="restoring", state=WorkState.RUNNING, finished=None, intake=None, reached_tokens=0
    )
    works = SimpleNamespace(in_state=lambda _: [work])
    watch = StallWatch(SimpleNamespace(seat=seat), works, None, Figures(), settings)
    due = watch._signs().expected
    allowed_s = max(budget_s(one, settings.stalls) for one in due)
    pass_s = record.weights_bytes / settings.stalls.load_floor_bytes
    assert allowed_s == settings.stalls.quiet_s + (pass_s if phase == TRYING else 0)
