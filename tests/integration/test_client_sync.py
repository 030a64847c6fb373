"""Client: the same behaviour for programs without an event loop, and from several threads."""

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.support.peers.fake_views import WORDS, answer_read, swap_report

from hotseat.client import Client, DaemonUnreachable, HotseatError, RequestFailed
from hotseat.protocol.messages import Cancel, Events, Quote, Release
from hotseat.protocol.replies import Accepted, Chunk, Event, Progress, Reply

TEXT = "".join(WORDS)


def test_iterating_a_stream_yields_chunks_then_the_result(client):
    stream = client.generate("smol", prompt="x")
    assert [token for chunk in stream for token in chunk.tokens] == list(range(len(WORDS)))
    assert stream.result().text == TEXT
    assert stream.offset_tokens == len(WORDS)


def test_text_and_events_show_the_same_stream(client):
    assert "".join(client.generate("smol", prompt="x").text()) == TEXT
    kinds = [type(event) for event in client.generate("smol", prompt="x").events()]
    assert kinds == [Accepted, Progress, *[Chunk] * len(WORDS)]


def test_errors_are_typed(client):
    with pytest.raises(RequestFailed) as caught:
        client.generate("smoll", prompt="x").result()
    assert caught.value.code == "unknown_model"


def test_progress_callbacks_run_in_the_calling_thread(client):
    threads = []
    client.swap("gemma", on_progress=lambda _: threads.append(threading.current_thread()))
    client.generate(
        "smol", prompt="x", on_progress=lambda _: threads.append(threading.current_thread())
    ).result()
    assert threads == [threading.current_thread()] * 4


def test_leaving_a_stream_early_cancels_it(client, daemon):
    daemon.pause_after = 1
    with client.generate("smol", prompt="x", request_id="r") as stream:
        next(stream)
    assert [cancel.request_id for cancel in daemon.of(Cancel)] == ["r"]


def test_cancel_from_another_thread_ends_a_waiting_stream(client, daemon):
    daemon.pause_after = 1
    stream = client.generate("smol", prompt="x", request_id="r")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.result)
        while stream.offset_tokens < 1:
            client.status()
        assert client.cancel("r") is True
        assert waiting.result(30).finish_reason == "cancelled"


def test_one_client_serves_several_threads(client):
    def work(number):
        return "".join(client.generate("smol", prompt="x", request_id=f"r{number}").text())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [TEXT] * 40


def test_daemon_restart_in_mid_stream_loses_and_doubles_nothing(client, daemon):
    daemon.pause_after = 3
    stream = client.generate("smol", prompt="x")
    tokens = [next(stream).tokens[0] for _ in range(3)]
    daemon.vanish()
    daemon.pause_after = None
    daemon.come_back("two")
    tokens += [token for chunk in stream for token in chunk.tokens]
    assert tokens == list(range(len(WORDS)))
    assert client.instances == ("one", "two")


def test_reads_and_swap_return_typed_views(client):
    assert client.status().model == "smol"
    assert len(client.models()) == 3
    assert client.sessions("smol")[0].session == "agent"
    assert client.session("smol", "agent").turn == 2
    assert client.plan("smol").fits
    assert client.delete_session("smol", "agent") > 0
    assert client.swap("gemma") == swap_report("gemma")
    assert client.release().released == "smol"
    assert [view.model for view in client.quote(["smol", "gemma"])] == ["gemma", "smol"]
    assert [view.client for view in client.why(limit=1)] == ["explorer[7]"]


def test_quote_takes_messages_as_a_caller_writes_them(client, daemon):
    client.quote(["smol"], messages=[{"role": "user", "content": "hi"}])
    assert daemon.of(Quote)[0].messages[0].content == "hi"
    with pytest.raises(HotseatError, match=r"message: .*role") as caught:
        client.quote(["smol"], messages=[{"role": "nobody", "content": "hi"}])
    assert caught.value.code == "invalid_request"


def test_release_may_take_longer_than_a_read(daemon):
    """A drain lasts as long as running requests may; no call timeout ends the wait."""

    def answer_late(peer, request_id, message):
        def answer():
            daemon.send(peer, request_id, Reply(result=answer_read(message, "one", 1)))

        threading.Timer(0.3, daemon.post, (answer,)).start()

    daemon.handlers[Release] = answer_late
    with Client(home=daemon.home, call_timeout_s=0.05) as client:
        assert client.release(60.0).released == "smol"
    assert daemon.of(Release)[0].for_s == 60.0


def test_interrupted_wait_loses_nothing(client, daemon):
    daemon.pause_after = 1
    stream = client.generate("smol", prompt="x")
    tokens = list(next(stream).tokens)
    with pytest.raises(TimeoutError):
        stream._pull.next(0.05)
    daemon.resume()
    tokens += [token for chunk in stream for token in chunk.tokens]
    assert tokens == list(range(len(WORDS)))


def test_waiting_for_events_ends_in_time(client, daemon):
    with client.events() as events:
        assert events.next(timeout_s=0.05) is None
        daemon.publish(Event(seq=1, at=0.0, name="swap.finished", facts={}))
        assert events.next(timeout_s=10).seq == 1


def test_events_end_at_the_daemon_when_they_are_left(client, daemon):
    with client.events() as events:
        daemon.wait_for(Events)
        daemon.publish(Event(seq=1, at=0.0, name="swap.finished", facts={"to": "gemma"}))
        assert next(events).facts == {"to": "gemma"}
    assert len(daemon.of(Cancel)) == 1


def test_no_daemon_raises_and_leaves_no_thread(tmp_path):
    before = threading.active_count()
    with pytest.raises(DaemonUnreachable, match="daemon not running"):
        Client(home=tmp_path)
    assert threading.active_count() == before


def test_closing_leaves_no_thread_or_descriptor_behind(daemon):
    with Client(home=daemon.home) as client:
        client.status()
    gc.collect()
    before = (threading.active_count(), psutil.Process().num_fds())
    for _ in range(5):
        with Client(home=daemon.home) as client:
            client.generate("smol", prompt="x").result()
    gc.collect()
    assert threading.active_count() == before[0]
    assert psutil.Process().num_fds() <= before[1] + 1  # the daemon may hold the last one still


def test_forgotten_client_is_cleaned_up(daemon):
    before = threading.active_count()
    client = Client(home=daemon.home)
    client.status()
    assert threading.active_count() == before + 1
    del client
    gc.collect()
    assert threading.active_count() == before


def test_closing_twice_and_using_after_close(daemon):
    client = Client(home=daemon.home)
    stream = client.generate("smol", prompt="x")
    client.close()
    client.close()
    with pytest.raises(DaemonUnreachable, match="closed"):
        client.status()
    with pytest.raises(DaemonUnreachable, match="closed"):
        stream.result()


def test_closing_releases_a_thread_that_waits(daemon):
    daemon.pause_after = 1
    client = Client(home=daemon.home)
    stream = client.generate("smol", prompt="x")
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.result)
        client.close()
        with pytest.raises(DaemonUnreachable):
            waiting.result(10)


def test_program_that_forgets_to_close_ends(daemon):
    code = f"""
from pathlib import Path
from hotseat.client import Client
client = Client(home=Path({str(daemon.home)!r}))
stream = client.generate("smol", prompt="x")
print(next(stream).tokens)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(0,)\n", "")


def test_importing_the_client_imports_no_daemon_and_no_mlx():
    code = """
import sys
import hotseat.client
bad = {"mlx", "mlx_lm", "psutil", "structlog", "click", "rich", "hotseat.supervisor"}
print(sorted(bad & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
