"""Clocks of the daemon: fast while there is work, one slow beat at rest, awake at once."""

import asyncio

import pytest

from hotseat.supervisor.loop import rhythm as rhythm_module
from hotseat.supervisor.loop.rhythm import Rhythm

LONG_S = 60.0
GIVE_UP_S = 20.0


@pytest.fixture
def pace(monkeypatch):
    """Sets how long a rest lasts and how soon it begins."""

    def choose(rest_s, settle_s=0.0):
        monkeypatch.setattr(rhythm_module, "REST_S", rest_s)
        monkeypatch.setattr(rhythm_module, "SETTLE_S", settle_s)

    return choose


def within(job):
    async def run():
        async with asyncio.timeout(GIVE_UP_S):
            return await job()

    return asyncio.run(run())


def test_clock_ticks_fast_while_there_is_work(pace):
    pace(rest_s=LONG_S)
    within(lambda: Rhythm(lambda: True).pause(0.001))


def test_rest_ends_by_itself(pace):
    pace(rest_s=0.01)
    within(lambda: Rhythm(lambda: False).pause(LONG_S))


def test_all_clocks_at_rest_wake_at_the_first_stir(pace):
    pace(rest_s=LONG_S)

    async def job():
        rhythm = Rhythm(lambda: False)
        clocks = [asyncio.create_task(rhythm.pause(LONG_S)) for _ in range(3)]
        await asyncio.sleep(0)  # a turn of the loop
        assert not any(clock.done() for clock in clocks)
        rhythm.stir()
        await asyncio.gather(*clocks)

    within(job)


def test_rest_begins_only_when_the_last_stir_is_a_while_ago(pace):
    pace(rest_s=LONG_S, settle_s=LONG_S)
    rhythm = Rhythm(lambda: False)
    assert not rhythm.is_resting()
    pace(rest_s=LONG_S, settle_s=0.0)
    assert rhythm.is_resting()


def test_end_of_work_counts_as_a_stir(pace):
    pace(rest_s=LONG_S)
    busy = True
    rhythm = Rhythm(lambda: busy)
    pace(rest_s=LONG_S, settle_s=LONG_S)
    rhythm._stirred_at = 0.0
    assert not rhythm.is_resting()
    busy = False
    assert not rhythm.is_resting()


@pytest.mark.parametrize(("rest_s", "ends"), [(0.0, True), (LONG_S, False)])
def test_chance_ends_only_a_rest_that_is_half_over(monkeypatch, pace, rest_s, ends):
    pace(rest_s=LONG_S)

    async def job():
        rhythm = Rhythm(lambda: False)
        clock = asyncio.create_task(rhythm.pause(LONG_S))
        await asyncio.sleep(0)  # a turn of the loop
        monkeypatch.setattr(rhythm_module, "REST_S", rest_s)
        rhythm.take_chance()
        await asyncio.sleep(0)  # a turn of the loop
        await asyncio.sleep(0)  # a turn of the loop
        assert clock.done() is ends
        clock.cancel()

    within(job)


def test_clock_that_is_cancelled_leaves_the_others_at_rest(pace):
    pace(rest_s=LONG_S)

    async def job():
        rhythm = Rhythm(lambda: False)
        gone, stays = (asyncio.create_task(rhythm.pause(LONG_S)) for _ in range(2))
        await asyncio.sleep(0)  # a turn of the loop
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert not stays.done()
        rhythm.stir()
        await stays

    within(job)
