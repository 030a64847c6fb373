"""Which sessions go to disk because they were quiet."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.kv.daily_writing import DailyWriting
from hotseat.supervisor.requests.deferred_blocks import DeferredBlocks
from hotseat.supervisor.requests.quiet_sessions import QuietSessions
from hotseat.supervisor.requests.rules.quiet_for_long import sessions_to_checkpoint
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.settings.values import Settings

A, B, OTHER = ("m", "a"), ("m", "b"), ("n", "a")
KEYS = st.sampled_from([A, B, OTHER])


def due(ended_at, busy=(), *, is_running=False, now=100.0):
    return sessions_to_checkpoint(
        ended_at, busy, seated="m", is_running=is_running, now=now, quiet_s=30.0
    )


def test_session_is_due_when_it_was_quiet_long_enough():
    assert due({A: 71.0}) == ()
    assert due({A: 70.0}) == (A,)


def test_session_of_a_model_without_the_seat_is_not_due():
    assert due({OTHER: 0.0}) == ()


def test_session_in_use_again_is_not_due():
    assert due({A: 0.0}, busy={A}) == ()


def test_sessions_go_one_by_one_while_requests_run_the_longest_quiet_first():
    assert due({A: 20.0, B: 10.0}) == (B, A)
    assert due({A: 20.0, B: 10.0}, is_running=True) == (B,)


@given(st.dictionaries(KEYS, st.floats(0, 100)), st.sets(KEYS), st.booleans())
def test_every_quiet_session_is_written_in_the_end_and_no_other(ended_at, busy, is_running):
    left, written = dict(ended_at), set()
    while found := due(left, busy, is_running=is_running):
        written |= set(found)
        left = {key: at for key, at in left.items() if key not in found}
    wanted = {key for key, at in ended_at.items() if at <= 70.0 and key[0] == "m"}
    assert written == wanted - busy


def test_nothing_is_written_for_being_quiet_on_a_day_of_much_writing():
    sent, days = [], DailyWriting()
    seat = SimpleNamespace(seated="m", send=sent.append)
    quiet = QuietSessions(Works(), seat, Settings(), days)
    request = SimpleNamespace(session="a")
    quiet.note_end(SimpleNamespace(model="m", persist=True, request=request), 0.0)
    days.limit(1)
    days.add(2)
    quiet.tick(60.0)
    assert sent == []
    days.limit(None)
    quiet.tick(60.0)
    assert [order.sessions for order in sent] == [("a",)]


def test_each_worker_is_told_once_to_defer_and_once_to_go_on():
    sent, days = [], DailyWriting()
    seat = SimpleNamespace(serving_epoch=1, send=lambda order: sent.append(order) or True)
    deferred = DeferredBlocks(seat, days)
    days.limit(1)
    for size in (0, 0, 2, 0):
        days.add(size)
        deferred.tick(0.0)
    assert [order.blocks for order in sent] == [True]
    for epoch in (None, 2, 2):
        seat.serving_epoch = epoch
        deferred.tick(0.0)
    assert [order.blocks for order in sent] == [True, True]
    days.limit(None)
    deferred.tick(0.0)
    deferred.tick(0.0)
    assert [order.blocks for order in sent] == [True, True, False]


def test_worker_that_could_not_be_told_is_told_later():
    answers, days = [False, True], DailyWriting()
    seat = SimpleNamespace(serving_epoch=1, send=lambda _order: answers.pop(0))
    days.limit(0)
    days.add(1)
    deferred = DeferredBlocks(seat, days)
    for _ in range(3):
        deferred.tick(0.0)
    assert answers == []
