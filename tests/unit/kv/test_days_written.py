"""KV written by day: nothing is lost within a week, restarts included, and much is told once."""

import time

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.kv.daily_writing import DailyWriting
from hotseat.supervisor.kv.rules.days_written import DAYS, DaysWritten

DAY_S = 86_400
WRITES = st.lists(st.tuples(st.integers(0, 3 * DAY_S), st.integers(0, 100)), max_size=20)


@given(WRITES)
def test_day_holds_what_was_written_on_it_and_the_mean_is_of_the_last_week(writes):
    found, now, every = DaysWritten(), 10_000 * DAY_S, []
    for later_s, size in writes:
        now += later_s
        found = found.add(size, now)
        every.append((now // DAY_S, size))
    today = now // DAY_S
    assert found.today(now) == sum(size for day, size in every if day == today)
    week = [(day, size) for day, size in every if day > today - DAYS]
    days = today - min((day for day, _ in week), default=today) + 1
    assert found.a_day(now) == sum(size for _, size in week) // days
    assert len(found.days) <= DAYS
    assert msgspec.json.decode(msgspec.json.encode(found), type=DaysWritten) == found


def test_days_go_on_after_a_restart_and_damage_counts_as_nothing():
    first, second, third = DailyWriting(), DailyWriting(), DailyWriting()
    first.add(5)
    second.recall(first.text)
    second.add(2)
    assert second.today_bytes == second.day_bytes == 7
    third.recall('{"days": "many"}')
    third.recall(None)
    assert third.today_bytes == third.day_bytes == 0


def test_too_much_is_told_once_a_day(monkeypatch):
    days, now = DailyWriting(), [10_000.0 * DAY_S]
    monkeypatch.setattr(time, "time", lambda: now[0])
    days.add(10)
    assert not days.is_much and not days.news()
    days.limit(10)
    assert not days.is_much
    days.add(1)
    assert days.is_much and days.news() and not days.news()
    now[0] += DAY_S
    assert not days.is_much and not days.news()
    days.add(11)
    assert days.news()
