"""The overhead of a model is what quiet workers hold: one long prompt does not make it unfit."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import model_record

from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.daemon.measuring import Measuring
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.overhead import CAP_BYTES, SAMPLES, Overhead, Quiet
from hotseat.supervisor.models.rules.residence import ReadRate
from hotseat.supervisor.settings.values import Settings

RECORD = model_record()


def learnt(*samples):
    known = Overhead()
    for sample in samples:
        known = known.with_sample(sample)
    return known


@pytest.mark.parametrize(
    ("samples", "size"),
    [
        ((), None),
        ((300 * MIB,), 300 * MIB),
        ((300 * MIB, 7 * GIB, 310 * MIB), 310 * MIB),  # 7 GiB that MLX does not see, once
        ((300 * MIB, 400 * MIB), 400 * MIB),
        ((-5,), 0),  # the beat was newer than the footprint
        ((64 * GIB,), CAP_BYTES),
    ],
)
def test_overhead_is_the_median_and_never_more_than_the_cap(samples, size):
    assert learnt(*samples).size_bytes == size


def test_old_samples_are_forgotten():
    known = learnt(*[GIB] * SAMPLES, *[MIB] * SAMPLES)
    assert known.samples == (MIB,) * SAMPLES


@given(st.lists(st.integers(-GIB, 100 * GIB), min_size=1, max_size=60))
def test_overhead_is_one_of_the_last_samples_within_the_cap(samples):
    size = learnt(*samples).size_bytes
    assert size in {min(max(sample, 0), CAP_BYTES) for sample in samples[-SAMPLES:]}


def test_quiet_time_gives_one_sample_after_two_seconds():
    quiet = Quiet().seen((1, 4), 10.0)
    assert not quiet.is_due(11.9)
    assert quiet.seen((1, 4), 11.9).is_due(12.0)
    assert not quiet.seen((1, 5), 11.9).is_due(13.0), "a request ended in between"


class Worker:
    """A seated worker whose figures the test decides, looked at by the daemon's measuring."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.footprint = 5 * GIB
        self.beat = SimpleNamespace(
            active_bytes=4 * GIB,
            cache_bytes=GIB // 2,
            live_kv_bytes=0,
            streamed_bytes=0,
            streamed_s=0.0,
        )
        self.noted = []
        monkeypatch.setattr("hotseat.supervisor.daemon.measuring.time.monotonic", lambda: self.now)
        seat = SimpleNamespace(
            worker_pid=7,
            beat=self.beat,
            admits=True,
            record=RECORD,
            state=SimpleNamespace(epoch=1),
        )
        self.works = SimpleNamespace(running=0, ended_count=0)
        probe = SimpleNamespace(quick_footprint=lambda _pid: self.footprint)
        self.measuring = Measuring(
            runner=SimpleNamespace(seat=seat),
            planner=Planner(None, probe, OwnMemory(), Settings()),
            works=self.works,
            reports=SimpleNamespace(note_footprint=lambda _bytes: None),
            keeper=SimpleNamespace(bytes_written=0, files_unlinked=0),
            catalogue=SimpleNamespace(totals=self._nothing, session_summaries=self._nothing),
            figures=SimpleNamespace(),
            kept=SimpleNamespace(note_overhead=self._note),
        )

    async def _nothing(self):
        return []

    async def _note(self, record, overhead_bytes):
        assert record is RECORD
        self.noted.append(overhead_bytes)

    async def measure(self, after_s=1.0):
        self.now += after_s
        await self.measuring.measure()


async def test_sample_is_taken_of_a_quiet_worker_without_the_allocators_cache(monkeypatch):
    worker = Worker(monkeypatch)
    for _ in range(6):
        await worker.measure()
    assert worker.noted == [GIB // 2], "once in a quiet time, and without what MLX keeps to reuse"


async def test_busy_worker_is_not_sampled_and_a_new_quiet_time_counts_again(monkeypatch):
    worker = Worker(monkeypatch)
    worker.works.running = 1
    for _ in range(4):
        await worker.measure()
    assert worker.noted == []
    worker.works.running, worker.works.ended_count = 0, 1
    await worker.measure()
    await worker.measure()
    assert worker.noted == [], "only just quiet"
    await worker.measure()
    worker.works.ended_count = 2  # a request that no look saw running
    worker.footprint = 6 * GIB
    for _ in range(3):
        await worker.measure()
    assert worker.noted == [GIB // 2, 3 * GIB // 2]


def test_model_that_was_swollen_once_is_planned_as_before():
    machine = MachineMemory(total_bytes=24 * GIB, available_bytes=20 * GIB)
    probe = SimpleNamespace(machine=lambda: machine)
    planner = Planner(SimpleNamespace(), probe, OwnMemory(), Settings())
    assert planner.note_overhead(RECORD, 300 * MIB)
    assert not planner.note_overhead(RECORD, 301 * MIB), "no news worth a write"
    planner.note_reading(GIB // 2, 0.1)
    assert planner.reading == ReadRate(), "too little to say anything of the disk"
    planner.note_reading(3 * GIB, 1.5)
    assert planner.reading.bytes_per_s == 2 * GIB
    before = planner.plan(RECORD)
    planner.note_overhead(RECORD, 20 * GIB)
    after = planner.plan(RECORD)
    assert after.fits
    assert after.overhead_measured
    assert after.overhead_bytes - before.overhead_bytes <= MIB
