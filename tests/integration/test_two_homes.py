"""S1, B13: one seat per machine. Real workers, whose weights show in the process table."""

import threading

import psutil
import pytest
from tests.support.daemons.commands import cli_json
from tests.support.daemons.live_daemon import LiveDaemon, put_record
from tests.support.daemons.real_home import ProcessTable, register_heavy
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.errors import HotseatError

MEMORY = "[memory]\nreserve_bytes = 1\n"


def outcome(call, *args):
    """What a call gave, or the error it raised."""
    try:
        return call(*args)
    except HotseatError as error:
        return error


def at_once(*calls):
    """Runs calls at the same moment, each in a thread of its own; their outcomes in order."""
    gate = threading.Barrier(len(calls))
    results = [None] * len(calls)

    def run(place, call, args):
        gate.wait()
        results[place] = outcome(call, *args)

    threads = [
        threading.Thread(target=run, args=(place, call, args))
        for place, (call, *args) in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a call hangs"
    return results


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """Records of three models of other weights; homes share their folders."""
    home = tmp_path_factory.mktemp("heavy")
    return [register_heavy(home, name, seed) for seed, name in enumerate("abc")]


def home_with(records, **options):
    daemon = LiveDaemon(settings=MEMORY, **options)
    for record in records:
        put_record(daemon.home, record)
    return daemon


@pytest.mark.parametrize("standby", [pytest.param(False, marks=pytest.mark.long), True])
def test_two_swaps_at_once_never_have_two_workers_with_weights(heavy, standby):
    with home_with(heavy, standby=standby) as daemon:
        clients = [daemon.client() for _ in range(2)]
        clients[0].swap("a")
        seated = "a"
        with ProcessTable(daemon) as table:
            for _ in range(2):
                targets = sorted(set("abc") - {seated})
                reports = at_once(*((c.swap, t) for c, t in zip(clients, targets, strict=True)))
                assert [report.to for report in reports] == targets
                # One order was chosen: the second swap began where the first had ended.
                first, second = sorted(reports, key=lambda report: report.from_ != seated)
                assert (first.from_, second.from_) == (seated, first.to)
                seated = clients[0].status().model
                assert seated == second.to
        assert table.crowded == []
        assert len(table.seen_heavy) >= 4, "weights were not recognised"


def test_two_homes_have_one_seat_and_the_second_says_who_has_it(heavy):
    with home_with(heavy) as first, home_with(heavy, seat_lock=first.seat_lock) as second:
        one, two = first.client(), second.client()
        one.swap("a")
        holder = one.status()
        with ProcessTable(first, second) as table:
            for call in (lambda: two.swap("b"), lambda: two.generate("b", prompt="x").result()):
                error = outcome(call)
                assert error.code == "seat_taken"
                facts = {name: error.facts[name] for name in ("user", "pid", "model", "bytes")}
                assert facts["pid"] == holder.pid
                assert (facts["model"], facts["bytes"]) == ("a", heavy[0].weights_bytes)
                assert facts["user"]
            code, printed = cli_json(second, "swap", "b")
            assert (code, printed["error"]["code"]) == (6, "seat_taken")
            assert printed["error"]["retryable"] is True
            assert one.generate("a", prompt="x", max_tokens=3).result().finish_reason == "length"
            assert first.stop() == 0
            assert two.swap("b").to == "b"
        assert table.crowded == []
        assert len(table.seen_heavy) == 2


def test_two_homes_that_swap_at_the_same_moments_never_both_have_weights(heavy):
    with home_with(heavy) as first, home_with(heavy, seat_lock=first.seat_lock) as second:
        clients = first.client(), second.client()
        with ProcessTable(first, second) as table:
            for target in "abc":
                results = at_once(*((client.swap, target) for client in clients))
                refused = [r for r in results if isinstance(r, HotseatError)]
                assert [error.code for error in refused] == ["seat_taken"]
        assert table.crowded == []
        assert len(table.seen_heavy) == 3


def test_dead_holder_gives_the_seat_to_the_other_home():
    with LiveDaemon(settings=MEMORY) as first:
        register_tiny(first.home, "a", "llama")
        second = LiveDaemon(settings=MEMORY, seat_lock=first.seat_lock)
        register_tiny(second.home, "b", "llama")
        with second:
            two = second.client()
            first.client().swap("a")
            assert outcome(two.swap, "b").code == "seat_taken"
            workers = first.workers()
            first.kill()
            # The orphan keeps the lock until it is gone, so that its weights stay alone.
            psutil.wait_procs(workers, timeout=12)
            assert two.swap("b").to == "b"
