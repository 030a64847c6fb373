"""Events in order, numbered, with gaps told and credit kept; against the real client machine."""

import pytest

from hotseat.client.exchange import Subscription
from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import Events
from hotseat.protocol.replies import Event, Gap
from hotseat.supervisor.events.log import RING, EventLog, Subscriber

PLENTY = 10**9


def status():
    return {"phase": "empty"}


def make_log():
    return EventLog(lambda _event: None)


class Reader:
    """A subscriber that keeps what it gets."""

    def __init__(self, log, since=None, topics=(), credit_bytes=PLENTY):
        self.items = []
        self.subscriber = Subscriber(
            self.deliver, log.last_seq if since is None else since, topics, credit_bytes, status
        )
        log.subscribe(self.subscriber)

    def deliver(self, item):
        self.items.append(item)

    @property
    def names(self):
        return [item.name for item in self.items if isinstance(item, Event)]


@pytest.fixture
def log():
    return make_log()


def test_subscriber_from_now_sees_what_follows_in_order(log):
    log.publish("before")
    reader = Reader(log)
    first, second = log.publish("one", a=1), log.publish("two")
    assert reader.items == [first, second]
    assert second.seq == first.seq + 1
    assert first.facts == {"a": 1}


def test_since_replays_what_the_ring_still_has(log):
    events = [log.publish(f"e{number}") for number in range(5)]
    assert Reader(log, since=events[1].seq).items == events[2:]


def test_since_before_the_ring_is_a_gap_with_a_status_then_all_there_is(log):
    first = log.publish("first")
    for number in range(RING):
        log.publish(f"e{number}")
    reader = Reader(log, since=first.seq - 1)
    gap, *events = reader.items
    assert gap == Gap(since=first.seq - 1, next_seq=first.seq + 1, status={"phase": "empty"})
    assert [event.seq for event in events] == list(range(first.seq + 1, first.seq + 1 + RING))


def test_since_of_another_run_that_counted_further_is_a_gap_not_silence(log):
    event = log.publish("here")
    reader = Reader(log, since=event.seq + 1_000)
    assert isinstance(reader.items[0], Gap)
    assert reader.names == ["here"]
    log.publish("later")
    assert reader.names == ["here", "later"]


def test_numbers_grow_over_a_restart_within_the_same_second():
    old = make_log()
    last = [old.publish("e").seq for _ in range(3)][-1]
    # As long as the fastest start of a daemon that could follow.
    import time

    began = time.monotonic()
    while time.monotonic() - began < 0.01:
        pass
    assert make_log().last_seq > last


def test_topics_choose_by_the_beginning_of_the_name(log):
    reader = Reader(log, topics=("swap.", "request.f"))
    for name in ("swap.started", "request.accepted", "request.failed", "seat.emptied"):
        log.publish(name)
    assert reader.names == ["swap.started", "request.failed"]


def test_reader_without_credit_waits_and_loses_nothing(log):
    reader = Reader(log, credit_bytes=1)
    events = [log.publish(f"e{number}") for number in range(6)]
    assert reader.items == events[:1], "one item may overdraw"
    log.grant(reader.subscriber, PLENTY)
    assert reader.items == events


def test_reader_without_credit_gets_no_gap_after_gap(log):
    reader = Reader(log, credit_bytes=1)
    for number in range(RING + 50):
        log.publish(f"e{number}")
    assert len(reader.items) == 1
    log.grant(reader.subscriber, PLENTY)
    gaps = [item for item in reader.items if isinstance(item, Gap)]
    assert len(gaps) == 1
    assert reader.items[-1].seq == log.last_seq


def test_unsubscribed_reader_gets_nothing_more(log):
    reader = Reader(log)
    log.unsubscribe(reader.subscriber)
    log.unsubscribe(reader.subscriber)
    log.publish("late")
    assert reader.items == []


def test_following_for_a_long_time_never_runs_out_of_credit(log):
    """The client grants what it read; daemon and client have to count alike."""
    opening = Events(since=log.last_seq, credit_bytes=DEFAULT_CREDIT_BYTES)
    client = Subscription(RequestId("e"), opening, 1.0)
    seen = []

    def deliver(item):
        assert not list(client.receive(item))

    subscriber = Subscriber(deliver, log.last_seq, (), DEFAULT_CREDIT_BYTES, status)
    log.subscribe(subscriber)
    for number in range(20_000):
        log.publish("seat.phase_changed" if number % 2 else "x", phase="ready", epoch=number)
        while True:
            item, messages = client.take()
            if item is None:
                break
            seen.append(item.seq)
            for message in messages:
                log.grant(subscriber, message.grant_bytes)
    assert len(seen) == 20_000
    assert DEFAULT_CREDIT_BYTES // 2 <= subscriber.credit_bytes <= DEFAULT_CREDIT_BYTES
