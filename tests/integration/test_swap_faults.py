"""Workers that die, hang, refuse and disobey: typed errors, the way back, nothing hangs.

One daemon for all; every model has a fault of its own, and "a" is seated before each test.
"""

import time
import uuid

import psutil
import pytest
from tests.support.daemons.live_daemon import put_record, wait_for
from tests.support.daemons.stub_home import error_of, expected, serves, stub_daemon, stub_record
from tests.support.daemons.watching import Background, WorkerCount
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.model import FileDigest
from hotseat.protocol.replies import Event

SLOW = {"slow_token_s": 0.005, "reply_tokens": 100_000}
SHORT = """
[deadlines]
load_s = 1.5
warm_s = 1.5
grace_s = 0.3
drain_s = 0.4
checkpoint_s = 1.5
stop_s = 0.3
term_s = 0.3
kill_s = 2.0
"""
BAD_TARGETS = {
    "load-fails": {"fail_load": True},
    "warm-fails": {"fail_warm": True},
    "load-dies": {"die_at": "load", "stderr": "out of luck\n"},
    "load-exits": {"die_at": "load", "exit_code": 1},
    "load-raises": {"raise_at": "load"},
    "load-memory": {"raise_at": "load", "raise_kind": "memory"},
    "load-hangs": {"hang_load": True},
    "load-freezes": {"freeze_at": "load"},
    "warm-dies": {"die_at": "warm"},
    "warm-hangs": {"hang_at": "warm"},
}
AT_THE_DEADLINES_S = 15.0
"""Those of SHORT add up to 2.1 s before a SIGKILL; what `stop-takes-long` needs is 30 s."""
BAD_LEAVERS = {
    "checkpoint-dies": {"die_at": "checkpoint"},
    "checkpoint-hangs": {"hang_at": "checkpoint"},
    "checkpoint-freezes": {"freeze_at": "checkpoint"},
    "stop-dies": {"die_at": "stop"},
    "stop-hangs": {"hang_at": "stop"},
    "stop-freezes": {"freeze_at": "stop"},
    "stop-ignored": {"ignore_stop": True},
    "stop-takes-long": {"stop_s": 30.0},
}
FULL_DISKS = {"full": {"checkpoint_fail": True}, "odd": {"checkpoint_fail": "internal"}}
POINTS = ("start", "lookup", "first_token", "token_n", "finish")
OTHERS = {
    "slow": SLOW,
    "deaf": SLOW | {"ignore_suspend": True},
    "poison": {"die_at": "first_token"},
    "stuck": {"hang_at": "token_n", "token_n": 5},
    "breaks": {"break_request": "memory_pressure"},
    "refuses": {"refuse": "context_overflow"},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    used = tmp_path_factory.mktemp("once")
    once = {f"once-{point}": {"die_at": point, "once_file": str(used / point)} for point in POINTS}
    models = BAD_TARGETS | BAD_LEAVERS | FULL_DISKS | OTHERS | once
    with stub_daemon(["a", "b", "tired", *models], settings=SHORT, models=models) as running:
        yield running


@pytest.fixture
def client(client):
    client.swap("a")
    return client


def new_id():
    return uuid.uuid4().hex[:12]


def kill_worker(daemon):
    (worker,) = daemon.workers()
    worker.kill()
    return worker


def events_since(daemon, since):
    """Names of the events after that number, up to now."""
    with RawPeer(daemon.endpoint().requests) as peer:
        peer.pack("events", {"since": since, "credit_bytes": 10**9}, "e")
        peer.pack("status", {}, "s")
        seen = []
        while (got := peer.receive())[0] != "s":
            if isinstance(got[1], Event):
                seen.append(got[1])
        return seen


def last_seq(daemon):
    return max(event.seq for event in events_since(daemon, 1))


# --- the target cannot be seated ----------------------------------------------------------------


@pytest.mark.parametrize("model", BAD_TARGETS)
def test_target_that_cannot_be_seated_goes_back_to_the_old_model_and_says_why(
    daemon, client, model
):
    session = new_id()
    first = client.generate("a", prompt="x" * 300, session=session).result()
    with WorkerCount(daemon):
        error = error_of(client.swap, model)
        assert serves(client, "a"), "the old model serves the next request"
    assert error.code in ("model_unavailable", "worker_lost", "memory_pressure", "internal")
    assert (error.facts["target"], error.facts["back_to"]) == (model, "a")
    more = client.generate("a", append="y", session=session).result()
    assert more.usage.restored_tokens >= first.usage.prompt_tokens
    waiting = error_of(client.generate(model, prompt="x").result)
    # Memory that is not there for a load is not tried for again at once.
    is_permanent = model == "load-memory"
    assert waiting.code == ("model_quarantined" if is_permanent else error.code)
    quarantined = error_of(client.swap, model)
    assert quarantined.code == "model_quarantined"
    assert quarantined.retry_after_s > 0
    assert next(m for m in client.models() if m.name == model).state == "quarantined"
    assert serves(client, "a")


def test_worker_that_dies_loading_is_quoted_in_the_error(client, daemon):
    with stub_daemon("a", die_at="load", stderr="out of luck\n") as other:
        error = error_of(other.client().swap, "a")
        assert "did not send" in error.message
        assert error.facts["stderr"] == ["out of luck"]
        assert other.client().status().phase == "empty"
        assert error.facts["back_to"] is None


@pytest.mark.parametrize("point", ["hello", "load"])
def test_first_start_that_fails_leaves_an_empty_seat_and_the_next_try_works(point, tmp_path):
    with stub_daemon("a", die_at=point, once_file=str(tmp_path / "once")) as daemon:
        client = daemon.client()
        assert error_of(client.generate("a", prompt="x").result).code == "worker_lost"
        assert serves(client, "a")


def test_worker_with_a_wrong_secret_is_never_believed():
    settings = "[deadlines]\nstart_s = 0.5\n"
    with stub_daemon("a", settings=settings, wrong_secret=True) as daemon:
        client = daemon.client()
        error = error_of(client.swap, "a")
        assert error.code == "model_unavailable"
        assert "start_s" in error.message
        wait_for(lambda: not daemon.workers(), what="worker ended")


def test_files_of_the_target_that_are_gone_are_found_before_anything_is_drained(
    daemon, client, tmp_path
):
    epoch = client.status().epoch
    file = FileDigest(name="model.safetensors", size_bytes=5, mtime_ns=1, blake2b="0")
    put_record(daemon.home, stub_record("gone", path=str(tmp_path), files=(file,)))
    error = error_of(client.swap, "gone")
    assert error.code == "model_unavailable"
    assert "model.safetensors" in error.message
    assert client.status().epoch == epoch
    assert serves(client, "a")


# --- the old model cannot be left ---------------------------------------------------------------


@pytest.mark.parametrize("model", FULL_DISKS)
def test_failed_checkpoint_keeps_the_old_model_with_its_sessions(daemon, client, model):
    session = new_id()
    first = client.generate(model, prompt="x", session=session).result()
    epoch, seq = client.status().epoch, last_seq(daemon)
    error = error_of(client.swap, "b")
    assert error.code == "disk_full"
    assert error.facts["sessions"] == [session]
    more = client.generate(model, append="y", session=session).result()
    assert more.usage.restored_tokens >= first.usage.prompt_tokens
    assert error_of(client.generate("b", prompt="x").result).code == "disk_full"
    assert serves(client, model)
    assert client.status().epoch == epoch
    begun = [e for e in events_since(daemon, seq) if e.name == "swap.started"]
    assert len(begun) == 2, "a swap that had failed was begun again"
    client.delete_session(model, session)  # nothing is left to write: the way is free
    assert client.swap("b").to == "b"


def test_drain_that_takes_too_long_gives_up_and_the_request_goes_on(daemon, client):
    stream = client.generate("deaf", prompt="tale", max_tokens=300)
    with daemon.held("token"):
        next(stream)
        error = error_of(client.swap, "b")
    assert error.code == "draining"
    assert "drain_s" in error.message
    assert client.generate("deaf", prompt="y", max_tokens=2).result().tokens
    assert stream.result().tokens == expected("deaf", "tale", 300)
    assert client.swap("b").to == "b"


@pytest.mark.parametrize("model", BAD_LEAVERS)
def test_worker_that_will_not_end_in_order_is_ended_and_the_swap_goes_on(daemon, client, model):
    session = new_id()
    client.generate(model, prompt="x" * 300, session=session).result()
    (worker,) = daemon.workers()
    with WorkerCount(daemon):
        began = time.monotonic()
        report = client.swap("b")
        assert time.monotonic() - began < AT_THE_DEADLINES_S
    assert report.to == "b"
    assert not worker.is_running()
    assert serves(client, "b")
    more = client.generate(model, append="y", session=session).result()
    assert more.turn == 2
    assert more.usage.restored_tokens >= 256, "full blocks were durable before"


@pytest.mark.alone
def test_worker_that_ignores_every_request_to_end_is_killed_at_the_deadline():
    with stub_daemon("ab", settings=SHORT, ignore_stop=True, ignore_sigterm=True) as daemon:
        client = daemon.client()
        client.swap("a")
        (worker,) = daemon.workers()
        report = client.swap("b")
        assert 0.55 < report.phases.stop_s < 1.6, "stop_s + term_s"
        assert not worker.is_running()
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 3


# --- the seated worker dies ---------------------------------------------------------------------


def test_idle_worker_that_is_killed_is_replaced_and_sessions_go_on(daemon, client):
    session = new_id()
    client.generate("a", prompt="x" * 300, session=session).result()
    epoch = client.status().epoch
    worker = kill_worker(daemon)
    wait_for(lambda: client.status().epoch > epoch and client.status().phase == "ready")
    assert not worker.is_running()
    more = client.generate("a", append="y", session=session).result()
    assert more.turn == 2
    assert more.usage.restored_tokens == 256, "at most one tail is computed again"


def test_streams_go_on_with_the_same_tokens_however_often_the_worker_is_killed(daemon, client):
    streams = [
        client.generate("slow", prompt=f"tale {n}", session=new_id(), max_tokens=160)
        for n in range(2)
    ]
    chunks = [[next(stream)] for stream in streams]
    with WorkerCount(daemon):
        for kill in range(4):
            # Further than the last time: only deaths without progress add up.
            while streams[0].offset_tokens < 30 * (kill + 1):
                chunks[0].append(next(streams[0]))
            kill_worker(daemon)
        for seen, stream in zip(chunks, streams, strict=True):
            seen += list(stream)
    for n, (seen, stream) in enumerate(zip(chunks, streams, strict=True)):
        tokens = [token for chunk in seen for token in chunk.tokens]
        assert tokens == list(expected("slow", f"tale {n}", 160))
        assert stream.result().turn == 1


@pytest.mark.parametrize("point", POINTS)
def test_worker_that_dies_at_any_point_of_a_request_is_survived(client, point):
    model = f"once-{point}"
    done = client.generate(model, prompt="x" * 300, session="s", max_tokens=12).result()
    assert done.tokens == expected(model, "x" * 300, 12)
    assert done.turn == 1
    assert client.generate(model, append="y", session="s").result().turn == 2


def test_request_that_kills_its_worker_each_time_is_poison_and_others_are_served(client):
    error = error_of(client.generate("poison", prompt="x", session="s").result)
    assert error.code == "poison_request"
    assert serves(client, "b")
    assert error_of(client.session, "poison", "s").code == "session_missing"


def test_worker_that_dies_idle_again_and_again_is_given_up_after_five_restarts(daemon, client):
    client.swap("tired")
    first = client.status().epoch
    for epoch in range(first, first + 6):
        wait_for(
            lambda at=epoch: (client.status().epoch, client.status().phase) == (at, "ready"),
            what=f"epoch {epoch}",
        )
        kill_worker(daemon)
    wait_for(lambda: client.status().phase == "failed", what="given up")
    assert not daemon.workers()
    assert error_of(client.generate("tired", prompt="x").result).code == "model_quarantined"
    assert serves(client, "b"), "another model loads at once"


def test_output_that_cannot_be_repeated_ends_the_request_instead_of_mixing_two(daemon, client):
    """The model of the second worker is another one under the same name."""
    stream = client.generate("slow", prompt="x", session="mixed", max_tokens=100_000)
    while stream.offset_tokens < 10:
        next(stream)
    put_record(daemon.home, stub_record("slow", tag="f" * 32))
    kill_worker(daemon)
    error = error_of(stream.result)
    put_record(daemon.home, stub_record("slow"))
    assert error.code == "worker_lost"
    assert "repeated" in error.message
    assert error_of(client.session, "slow", "mixed").code == "session_missing"


def test_request_cancelled_when_its_worker_dies_ends_as_cancelled_with_what_was_shown(
    daemon, client
):
    """The worker hangs, so only its death can answer the cancel."""
    stream = client.generate("stuck", prompt="x", session="s")
    seen = []
    while len(seen) < 5:
        seen += next(stream).tokens
    assert stream.cancel()
    kill_worker(daemon)
    done = stream.result()
    assert done.finish_reason == "cancelled"
    assert list(done.tokens) == seen
    assert done.turn is None


def test_worker_that_dies_while_draining_ends_the_drain_and_the_request_goes_on():
    long_drain = "[deadlines]\ngrace_s = 60\n"
    with stub_daemon(["b", "slow"], settings=long_drain, models={"slow": SLOW}) as daemon:
        client = daemon.client()
        stream = client.generate("slow", prompt="tale", max_tokens=100)
        with daemon.held("token"):
            next(stream)
            swap = Background(client.swap, "b")
            wait_for(lambda: client.status().phase == "draining", what="draining")
            kill_worker(daemon)
        assert swap.result().to == "b"
        assert stream.result().tokens == expected("slow", "tale", 100)


@pytest.mark.parametrize(
    ("model", "code"), [("breaks", "memory_pressure"), ("refuses", "context_overflow")]
)
def test_request_that_fails_in_the_worker_ends_with_its_error_and_the_worker_lives(
    client, model, code
):
    assert error_of(client.generate(model, prompt="x").result).code == code
    epoch = client.status().epoch
    assert error_of(client.generate(model, prompt="x").result).code == code
    assert client.status().epoch == epoch


def test_nothing_of_ended_workers_is_left(daemon, client):
    process = psutil.Process(daemon.process.pid)
    before = process.num_fds()
    for model in ("b", "a") * 3:
        client.swap(model)
    epoch = client.status().epoch
    kill_worker(daemon)
    wait_for(lambda: client.status().epoch > epoch and client.status().phase == "ready")
    assert process.num_fds() <= before + 1
    assert len(process.children(recursive=True)) == 1, "zombies"
    assert len(list((daemon.home / "run").glob("*link-*"))) <= 1


def test_no_fault_was_a_defect_of_the_daemon(daemon, client):
    assert serves(client, "a")
    ours = [line for line in daemon.stderr().splitlines() if ".defect" in line or "task.f" in line]
    assert ours == []
    assert "Traceback" not in daemon.stderr()
