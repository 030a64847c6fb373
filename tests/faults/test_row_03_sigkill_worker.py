"""Row 3: the worker is killed while idle, in prefill and in decode: noticed at once, and streams
go on with the tokens they would have had.
"""

import statistics
import time

import psutil
import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import expected, stub_daemon

pytestmark = pytest.mark.alone

NOTICED_S = 0.1
SETTINGS = """
[deadlines]
back_off_s = 0.01
"""
STATES = ("idle", "prefill", "decode")
PROMPT = "it was a long way " * 60
"""More than one chunk of 256."""
TOKENS = 24


def kill(client, events):
    """SIGKILL to the seated worker; seconds until the daemon says that it is gone."""
    worker = psutil.Process(client.status().worker.pid)
    began = time.monotonic()
    worker.kill()
    at, event = events.wait("worker.exited", since=began)
    assert "SIGKILL that hotseat did not send" in event.facts["reason"]
    return at - began


def is_ready_again(client, epoch):
    view = client.status()
    return view.epoch > epoch and view.phase == "ready"


def run_once(client, events, state, model, tokens):
    """One kill in `state`; the seconds it took to be noticed and what the stream gave."""
    epoch = client.status().epoch
    if state == "idle":
        noticed_s = kill(client, events)
        wait_for(lambda: is_ready_again(client, epoch), what="seated again")
        stream = client.generate(model, prompt=PROMPT, max_tokens=tokens, seed=1)
        return noticed_s, stream.result().tokens
    heard = []
    stream = client.generate(
        model, prompt=PROMPT, max_tokens=tokens, seed=1, on_progress=heard.append
    )
    if state == "prefill":
        while not any(note.phase == "prefill" for note in heard):
            stream.next_event()
    else:
        while stream.offset_tokens < tokens // 3:
            next(stream)
    noticed_s = kill(client, events)
    return noticed_s, stream.result().tokens


def judge(row, worker, seconds):
    for noticed_s in seconds:
        row.record(worker=worker)
        assert noticed_s < 10 * NOTICED_S, "one of them was not noticed at all"
    p99 = max(seconds) if len(seconds) < 100 else statistics.quantiles(seconds, n=100)[98]
    row.record(worker=worker, value=p99, limit=NOTICED_S, unit="s", runs=0, what="noticed p99")


@pytest.mark.parametrize("state", STATES)
def test_stub_that_is_killed_is_noticed_at_once_and_the_stream_goes_on(row, state):
    pace = {"prefill_s": 0.1, "slow_token_s": 0.01, "reply_tokens": 1000}
    with (
        stub_daemon("a", settings=SETTINGS, **pace) as daemon,
        daemon.client() as client,
        EventTimes(daemon) as events,
    ):
        client.swap("a")
        wanted = expected("a", PROMPT, TOKENS)
        seconds = []
        for _ in range(row.runs(push=48, slice=1, release=800)):
            noticed_s, tokens = run_once(client, events, state, "a", TOKENS)
            assert tokens == wanted
            seconds.append(noticed_s)
    judge(row, "stub", seconds)


@pytest.mark.parametrize(
    "state",
    [pytest.param(state, marks=pytest.mark.beyond_slice) for state in STATES[:2]] + ["decode"],
)
def test_real_worker_that_is_killed_is_noticed_at_once_and_the_stream_goes_on(
    row, state, real_daemon
):
    with real_daemon.client() as client, EventTimes(real_daemon) as events:
        wanted = client.generate("tiny", prompt=PROMPT, max_tokens=200, seed=1).result().tokens
        seconds = []
        for _ in range(row.runs(push=2, slice=1, release=200)):
            noticed_s, tokens = run_once(client, events, state, "tiny", 200)
            assert tokens == wanted
            seconds.append(noticed_s)
    judge(row, "real", seconds)


@pytest.fixture(scope="module")
def real_daemon():
    from tests.support.models.tiny_models import register_tiny

    daemon = LiveDaemon(settings=SETTINGS)
    register_tiny(daemon.home, "tiny", "llama")
    with daemon:
        yield daemon
