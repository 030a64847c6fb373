"""Lines of a log that come too often are counted instead."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.ports.log_pace import LogPace


def test_flood_of_one_kind_is_a_few_lines_and_a_count():
    pace = LogPace(burst=3, window_s=10.0)
    assert [pace.admit("bad", number / 10) for number in range(8)] == [0, 0, 0, *[None] * 5]
    assert pace.admit("bad", 10.0) == 5
    assert pace.admit("bad", 30.0) == 0


def test_flood_of_one_kind_leaves_another_its_lines():
    pace = LogPace(burst=1)
    assert [pace.admit(kind, 0.0) for kind in ("bad", "bad", "other")] == [0, None, 0]


@given(st.lists(st.floats(0, 5), max_size=200))
def test_every_line_is_said_or_counted(gaps):
    pace, now, said, counted = LogPace(burst=2, window_s=3.0), 0.0, 0, 0
    for gap in gaps:
        now += gap
        left_out = pace.admit("bad", now)
        if left_out is not None:
            said, counted = said + 1, counted + left_out
    left_out = pace.admit("bad", now + 3.0)
    assert said + counted + left_out == len(gaps)
