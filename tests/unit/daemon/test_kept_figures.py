"""What was measured outlives the daemon: the scheduler of the next one reckons with it."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.streamed_contexts import ContextTrial
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import (
    COSTS_KEY,
    WORKING_SET_KEY,
    KeptFigures,
    read_costs,
    read_disk_rate,
)
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.rules.overhead import Overhead
from hotseat.supervisor.models.rules.residence import ReadRate
from hotseat.supervisor.models.rules.working_set import WorkingSet
from hotseat.supervisor.scheduling.forecaster import Forecaster
from hotseat.supervisor.scheduling.learned_costs import Costs
from hotseat.supervisor.scheduling.scheduler import SeatView, decide
from hotseat.supervisor.scheduling.waiting import Waiting
from hotseat.supervisor.settings.values import SchedulerSettings

SETTINGS = SchedulerSettings(min_seat_s=1.0, weight=4)


@pytest.fixture
async def catalogue(tmp_path):
    opened = await Catalogue.open(tmp_path / "catalogue.sqlite")
    yield opened
    await opened.close()


class Run:
    """A daemon's memory of costs, from its start on."""

    def __init__(self, catalogue, boot="boot-1", mlx="0.32.4"):
        self.forecaster = Forecaster(list)
        registry = SimpleNamespace(records=list)
        planner = SimpleNamespace(
            registry=registry,
            overheads={},
            trials={},
            note_overhead=self.note,
            own=OwnMemory(),
            reading=ReadRate(),
        )
        self.planner = planner
        self.kept = KeptFigures(catalogue, planner, self.forecaster, boot, mlx)

    def note(self, record, overhead_bytes):
        self.planner.overheads[record.tag] = Overhead().with_sample(overhead_bytes)
        return True

    def swaps_at(self, now):
        """Whether "b", which waits, gets the seat from "a", which has work."""
        waiting = [Waiting(key=name, model=name, order=place) for place, name in enumerate("ab")]
        cost_s = self.forecaster.swap_cost_s("a")
        seat = SeatView(model="a", settled=True, swap_cost_s=cost_s)
        return decide(waiting, [], seat, now, SETTINGS).swap_to == "b"


async def test_scheduler_reckons_after_a_restart_with_what_swaps_cost_before(catalogue):
    first = Run(catalogue)
    await first.kept.recall()
    assert first.swaps_at(1.5), "nothing is known yet: the least time on the seat is all"
    first.forecaster.swapped("a", 2.0)
    await first.kept.keep_now()
    second = Run(catalogue)
    await second.kept.recall()
    assert second.forecaster.swap_cost_s("a") == 2.0
    assert not second.swaps_at(7.9)
    assert second.swaps_at(8.1)


async def test_rate_of_the_disk_is_known_to_the_next_daemon(catalogue, tmp_path):
    file = tmp_path / "catalogue.sqlite"
    assert read_disk_rate(file) == ReadRate()
    first = Run(catalogue)
    first.planner.reading = ReadRate(bytes_per_s=2.5e9, at=1000.0)
    await first.kept.keep_now()
    assert read_disk_rate(file) == first.planner.reading, "without a daemon too"
    assert read_disk_rate(tmp_path / "none") == ReadRate()
    second = Run(catalogue)
    await second.kept.recall()
    assert second.planner.reading == first.planner.reading
    assert second.planner.reading.known(2000.0) == 2.5e9
    assert second.planner.reading.known(1e6) is None, "it is a day old"
    await catalogue.meta_set("read_rate", "soon")
    third = Run(catalogue)
    await third.kept.recall()
    assert third.planner.reading == ReadRate()


async def test_costs_that_an_older_daemon_kept_are_read(catalogue):
    kept = '{"models": {"a": {"swap_s": 3.0, "decode_tokens_per_s": 20.0}}}'
    await catalogue.meta_set(COSTS_KEY, kept)
    run = Run(catalogue)
    await run.kept.recall()
    assert run.forecaster.swap_cost_s("a") == 3.0
    assert run.forecaster.costs.of("a").decode_tokens_per_s == 20.0


async def test_costs_are_written_now_and_then_and_only_when_they_changed(catalogue):
    run = Run(catalogue)
    await run.kept.keep(now=100.0)
    assert await catalogue.meta_get(COSTS_KEY) is None
    run.forecaster.swapped("a", 2.0)
    await run.kept.keep(now=120.0)
    assert await catalogue.meta_get(COSTS_KEY) is None, "half a minute has not passed"
    await run.kept.keep(now=131.0)
    assert '"swap_s":2.0' in await catalogue.meta_get(COSTS_KEY)


async def test_overhead_of_a_model_is_known_to_the_next_daemon(catalogue):
    record = model_record()
    await Run(catalogue).kept.note_overhead(record, 123)
    run = Run(catalogue)
    run.planner.registry.records = lambda: [record]
    await run.kept.recall()
    assert run.planner.overheads == {record.tag: Overhead(samples=(123,))}


@pytest.mark.parametrize("kept", ["104857600", '{"mlx": "0.32.3"', '{"mlx": "0.32.4"}'])
async def test_overhead_of_an_older_daemon_or_of_nobody_is_measured_anew(catalogue, kept):
    record = model_record()
    await catalogue.meta_set(f"overhead:{record.tag}", kept)
    run = Run(catalogue)
    run.planner.registry.records = lambda: [record]
    await run.kept.recall()
    assert run.planner.overheads == {}


async def test_overhead_under_another_mlx_is_forgotten(catalogue):
    record = model_record()
    await Run(catalogue, mlx="0.32.4").kept.note_overhead(record, 123)
    run = Run(catalogue, mlx="0.32.5")
    run.planner.registry.records = lambda: [record]
    await run.kept.recall()
    assert run.planner.overheads == {}


@pytest.mark.parametrize("why", ["", "its code uses the context of a layer elsewhere"])
async def test_trial_of_a_model_is_known_to_the_next_daemon(catalogue, why):
    record, trial = model_record(), ContextTrial(under="mlx 0.32.4", why=why)
    first = Run(catalogue)
    first.planner.trials[record.tag] = trial
    await first.kept.keep_now()
    run = Run(catalogue)
    run.planner.registry.records = lambda: [record]
    await run.kept.recall()
    assert run.planner.trials == {record.tag: trial}


async def test_trial_that_cannot_be_read_is_made_again(catalogue):
    record = model_record()
    await catalogue.meta_set(f"contexts_tried:{record.tag}", '{"why": ""}')
    run = Run(catalogue)
    run.planner.registry.records = lambda: [record]
    await run.kept.recall()
    assert run.planner.trials == {}


LIMIT = WorkingSet(size_bytes=16 << 30, switch_mb=0)


@pytest.mark.parametrize(("boot", "known"), [("boot-1", LIMIT), ("boot-2", None)])
async def test_limit_of_metal_is_known_to_the_next_daemon_of_the_same_boot(catalogue, boot, known):
    first = Run(catalogue)
    first.planner.own.working_set = LIMIT
    await first.kept.keep_now()
    second = Run(catalogue, boot)
    await second.kept.recall()
    assert second.planner.own.working_set == known


async def test_limit_that_cannot_be_read_is_none(catalogue):
    await catalogue.meta_set(WORKING_SET_KEY, '{"boot": 3')
    run = Run(catalogue)
    await run.kept.recall()
    assert run.planner.own.working_set is None


async def test_costs_are_read_from_the_file_while_a_daemon_has_it_open(catalogue, tmp_path):
    run = Run(catalogue)
    await run.kept.recall()
    run.forecaster.swapped("a", 2.0)
    await run.kept.keep_now()
    assert read_costs(tmp_path / "catalogue.sqlite").swap_to("a") == 2.0


@pytest.mark.parametrize("content", [None, b"", b"no database at all"])
def test_file_that_tells_no_costs_is_no_error(content, tmp_path):
    file = tmp_path / "catalogue.sqlite"
    if content is not None:
        file.write_bytes(content)
    assert read_costs(file) == Costs()
