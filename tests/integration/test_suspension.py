"""R15, B2: a running request leaves the seat and comes back; its client sees a pause. Stub workers.

What the engine does with its numbers is proven in tests/unit/engine/test_suspend.py.
"""

import signal

import psutil
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import expected, stub_daemon

QUICK = "[deadlines]\ngrace_s = 0.2\nexit_drain_s = 0.2\n"
SLOW = {"slow_token_s": 0.02, "reply_tokens": 500}


def start(client, prompt="once upon a time", count=60, **options):
    stream = client.generate("a", prompt=prompt, max_tokens=count, **options)
    next(iter(stream))
    return stream


def test_running_request_pauses_for_a_swap_and_ends_with_the_same_tokens():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        with daemon.held("token"):
            stream = start(client)
            report = client.swap("b")
        assert report.sessions_checkpointed >= 1
        done = stream.result()
        assert done.tokens == expected("a", "once upon a time", 60)
        assert done.finish_reason == "length"
        assert done.timing.swap_s > 0
        assert client.sessions() == [], "a suspended request shows as a session"


def test_suspended_turn_of_a_session_is_committed_once_and_whole():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        stream = client.generate(
            "a", append=[{"role": "user", "content": "hi"}], session="s", max_tokens=60
        )
        with daemon.held("token"):
            next(iter(stream))
            client.swap("b")
        done = stream.result()
        assert (done.turn, len(done.tokens)) == (1, 60)
        (view,) = client.sessions()
        assert (view.session, view.turn) == ("s", 1)
        assert client.session("a", "s").messages[-1]["content"] == done.text


def test_worker_killed_in_mid_stream_is_a_pause_for_the_client():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        stream = start(client)
        psutil.Process(client.status().worker.pid).send_signal(signal.SIGKILL)
        done = stream.result()
        assert done.tokens == expected("a", "once upon a time", 60)


def test_suspended_request_goes_on_after_an_orderly_restart():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        stream = start(client, count=80, on_vanish="finish")
        token, request_id = client.token, stream.request_id
        assert daemon.stop() == 0
        client.close()
        daemon.start()
        again = daemon.client(token=token)
        with again.attach(request_id) as joined:
            done = joined.result()
        assert done.tokens == expected("a", "once upon a time", 80)


def test_cancelled_while_suspended_keeps_the_partial_turn():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        busy = daemon.client()
        stream = client.generate("a", prompt="tell", session="s", max_tokens=400)
        with daemon.held("token"):
            next(iter(stream))
            blocker = busy.generate("b", prompt="other", max_tokens=300)
            wait_for(lambda: client.status().model == "b" and client.status().phase == "ready")
            wait_for(lambda: any(r.state == "running" for r in client.status().requests))
            assert stream.cancel()
            done = stream.result()
        assert done.finish_reason == "cancelled"
        assert 0 < len(done.tokens) < 400
        assert done.turn == 1
        blocker.cancel()


def test_in_process_swap_keeps_the_worker_process():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        client.generate("a", prompt="x", session="s", max_tokens=5).result()
        pid = client.status().worker.pid
        report = client.swap("b", mode="in-process")
        assert report.mode == "in-process"
        assert client.status().worker.pid == pid
        assert client.status().epoch == 2
        back = client.generate("a", append="y", session="s", max_tokens=5).result()
        assert back.usage.restored_tokens > 0


def test_in_process_swap_becomes_a_process_swap_when_memory_stays():
    with stub_daemon(settings=QUICK, unload_keeps_memory=True, **SLOW) as daemon:
        client = daemon.client()
        client.generate("a", prompt="x", session="s", max_tokens=5).result()
        pid = client.status().worker.pid
        report = client.swap("b", mode="in-process")
        assert report.mode == "process"
        assert client.status().worker.pid != pid


def test_standby_is_promoted_and_replaced():
    with stub_daemon(daemon=LiveDaemon(stub=SLOW, standby=True)) as daemon:
        client = daemon.client()
        wait_for(lambda: client.status().standby.ready, what="standby ready")
        first = client.status().standby.pid
        client.swap("a")
        assert client.status().worker.pid == first
        wait_for(lambda: client.status().standby.ready, what="next standby ready")
        second = client.status().standby.pid
        assert second != first
        psutil.Process(second).send_signal(signal.SIGKILL)
        wait_for(lambda: client.status().standby.pid != second, what="dead standby noticed")
        assert client.swap("b").to == "b"
        assert len(daemon.workers()) <= 2
