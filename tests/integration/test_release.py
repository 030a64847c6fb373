"""B7: giving the seat up, what a request would cost, who caused the last swaps. Stub workers."""

import itertools
import json
import time

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, expected, journal, serves, stub_daemon
from tests.support.daemons.watching import Background

from hotseat.cli.main import run
from hotseat.protocol.discovery import ENDPOINT_VARIABLE

QUICK = "[deadlines]\ngrace_s = 0.2\nexit_drain_s = 0.2\n"
SLOW = {"slow_token_s": 0.02, "reply_tokens": 500}
LONG = "tell me about it " * 20


def talk(client, model="a", session="s", text=LONG):
    return client.generate(model, append=text, session=session, max_tokens=5).result()


def is_empty(client):
    view = client.status()
    return view.phase == "empty" and view.worker.pid is None


@pytest.fixture
def shell(monkeypatch, capsys):
    """Runs a `--json` command against a daemon."""

    def call(daemon, *args):
        monkeypatch.setenv("HOTSEAT_HOME", str(daemon.home))
        monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
        code = run([*args, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_release_empties_the_seat_and_the_next_turn_restores_its_context():
    with stub_daemon() as daemon:
        client = daemon.client()
        talk(client)
        view = client.release()
        assert (view.released, view.sessions_checkpointed, view.until) == ("a", 1, None)
        assert view.bytes_written > 0
        assert is_empty(client)
        assert daemon.workers() == []
        assert talk(client, text="more").usage.restored_tokens > 0
        assert client.status().model == "a"


def test_release_of_an_empty_seat_says_that_nobody_held_it():
    with stub_daemon() as daemon:
        client = daemon.client()
        assert client.release().released is None
        assert serves(client, "a")


def test_released_for_a_time_requests_are_refused_until_a_swap_takes_the_seat_back(shell):
    with stub_daemon() as daemon:
        client = daemon.client()
        talk(client)
        code, view = shell(daemon, "release", "--for", "30m")
        assert code == 0
        assert 1700 < view["until"] - time.time() <= 1800
        error = error_of(talk, client)
        assert error.code == "seat_released"
        assert 1700 < error.retry_after_s <= 1800
        assert "hotseat swap a" in error.message
        assert is_empty(client), "a refused request changes nothing"
        assert client.status().released_until == view["until"]
        quote, _ = client.quote(["a", "b"])
        assert not quote.fits, "a quote says what a request would be told"
        assert "hotseat swap a" in quote.reason
        code, report = shell(daemon, "swap", "a")
        assert (code, report["to"]) == (0, "a")
        assert client.status().released_until is None
        assert serves(client, "b"), "after the swap nothing is refused any more"


def test_request_that_was_suspended_by_a_release_goes_on_when_its_time_is_over():
    with stub_daemon(settings=QUICK, **SLOW) as daemon:
        client = daemon.client()
        stream = client.generate("a", prompt="once", max_tokens=60)
        with daemon.held("token"):
            next(iter(stream))
            assert client.release(for_s=3.0).released == "a"
            view = client.status()
            assert (view.phase, view.queue.suspended) == ("empty", 1)
            assert [request.state for request in view.requests] == ["suspended"]
        assert stream.result().tokens == expected("a", "once", 60)


def test_waiting_client_hears_that_it_is_suspended_as_long_as_another_model_is_seated():
    keeps_the_seat = "[scheduling]\nmin_seat_s = 60\n"
    with stub_daemon(settings=QUICK + keeps_the_seat, **SLOW) as daemon:
        client, other = daemon.client(), daemon.client()
        heard = []
        stream = client.generate("a", prompt="once", max_tokens=100, on_progress=heard.append)
        with daemon.held("token"):
            next(iter(stream))
            ended = Background(stream.result)
            blocker = other.generate("b", prompt="x", max_tokens=60)
            other.swap("b")
            next(iter(blocker))
            seated = len(heard) + 1  # the next one may have been said before
            wait_for(lambda: len(heard) > seated + 2, what="said again while nothing else happens")
            assert {note.phase for note in heard[seated:]} == {"suspended"}
            blocker.cancel()
        assert ended.result().tokens == expected("a", "once", 100)


def test_release_of_a_model_that_lost_the_seat_meanwhile_leaves_the_other_one_alone():
    """Asked while a swap is under way: what counts is who holds the seat when its turn comes."""
    with stub_daemon() as daemon:
        client = daemon.client()
        client.swap("a")
        with daemon.held("load"):
            swap = Background(client.swap, "b")
            wait_for(lambda: client.status().swap is not None)
            asked = Background(error_of, client.release, model="a")
            client.status()
        error = asked.result()
        assert (error.code, error.facts["seated"]) == ("not_seated", "b")
        assert swap.result().to == "b"
        assert client.status().phase == "ready"
        assert client.release(model="b").released == "b"


def test_release_for_a_time_of_another_model_holds_nothing_back():
    with stub_daemon() as daemon:
        client = daemon.client()
        client.swap("a")
        assert error_of(client.release, 60.0, "b").code == "not_seated"
        assert serves(client, "b")


def test_release_ends_with_the_daemon():
    """Asked for while a swap is under way, it has not begun when the daemon is told to stop."""
    with stub_daemon() as daemon, daemon.held("load"):
        client = daemon.client()
        flow = client._loop.call(lambda: client._client.start_swap("a"))
        wait_for(lambda: client.status().phase == "loading")
        asked = client._loop.begin(client._client.release())
        client.status()  # the release has been heard when this is answered
        client.shutdown()
        error = error_of(asked.result, 20)
        assert error.code == "shutting_down"
        assert error_of(client._loop.run, flow.result()).code == "shutting_down"


def test_release_that_cannot_save_contexts_leaves_the_model_seated():
    with stub_daemon(checkpoint_fail=True) as daemon:
        client = daemon.client()
        talk(client, text="short")
        error = error_of(client.release, 60.0)
        assert error.code == "disk_full"
        assert client.status().model == "a"
        assert serves(client, "a"), "a release that failed refuses nobody"


def test_idle_seat_is_given_up_with_its_contexts_on_disk():
    with stub_daemon(settings='[seat]\nstandby = "off"\nkeep_alive_s = 1\n') as daemon:
        client = daemon.client()
        talk(client)
        wait_for(lambda: is_empty(client), what="idle seat given up")
        (session,) = client.sessions()
        assert session.durable_tokens >= session.tokens - 1
        (newest, *_) = client.why()
        assert (newest.origin, newest.target, newest.request_id) == ("a", None, "keep_alive")
        assert talk(client, text="more").usage.restored_tokens > 0


def test_seat_with_work_is_not_idle():
    with stub_daemon(settings='[seat]\nstandby = "off"\nkeep_alive_s = 1\n', **SLOW) as daemon:
        client = daemon.client()
        events = client.events(topics=("seat.phase_changed", "request."))
        client.status()  # the subscription came before it
        done = client.generate("a", prompt="once", max_tokens=100).result()
        heard = itertools.takewhile(lambda event: event.name != "request.finished", events)
        phases = [event.facts.get("phase") for event in heard]
        assert "ready" in phases and "draining" not in phases, "a drain had begun while it ran"
        assert done.timing.decode_s > 1.5


def test_quote_says_what_was_measured():
    with stub_daemon("abc", load_s=0.2) as daemon:
        client = daemon.client()
        client.swap("b")
        talk(client)
        wait_for(lambda: client.status().sessions_live == 1, what="beat with the session")
        seated, before, never, unknown = client.quote(["a", "b", "c", "zz"], session="s")
        assert (seated.seated, seated.swap_s, seated.restore_s) == (True, 0.0, 0.0)
        # The newest token of an answer that ended full is computed by the next turn.
        assert seated.stored_tokens == seated.prompt_tokens - 1 > 300
        assert (before.seated, before.stored_tokens) == (False, 0)
        assert before.swap_s > 0.2
        assert never.fits
        assert never.swap_s > 0.2, "the mean of the others stands in for what was never measured"
        assert unknown.fits is False
        assert "zz" in unknown.reason
        assert client.status().model == "a", "asking for a price seats nobody"


def test_quote_of_a_quarantined_model_says_that_it_cannot_be_asked():
    with stub_daemon(models={"b": {"fail_load": True}}) as daemon:
        client = daemon.client()
        for _ in range(2):
            error_of(client.swap, "b")
        (view,) = client.quote(["b"])
        assert not view.fits
        assert "failed to load twice" in view.reason


def test_costs_are_known_after_a_restart_of_the_daemon():
    with stub_daemon() as daemon:
        daemon.client().swap("b")
        daemon.stop()
        daemon.start()
        (view,) = daemon.client().quote(["b"])
        assert view.swap_s is not None


def test_why_names_client_and_request_of_the_last_swaps(shell):
    with stub_daemon(models={"b": {"fail_load": True}}) as daemon:
        client = daemon.client(name="explorer")
        stream = client.generate("a", prompt="x", max_tokens=5, request_id="first")
        stream.result()
        error_of(client.swap, "b", request_id="second")
        wait_for(lambda: client.status().phase == "ready", what="back to the old model")
        _, answer = shell(daemon, "why", "-n", "3")
        restored, failed, asked = answer["swaps"]
        assert (asked["origin"], asked["target"], asked["outcome"]) == (None, "a", "finished")
        assert asked["client"].startswith("explorer[")
        assert (asked["request_id"], asked["model_asked"]) == ("first", "a")
        assert asked["total_s"] > 0
        assert (failed["origin"], failed["target"], failed["outcome"]) == ("a", "b", "failed")
        assert (failed["request_id"], failed["model_asked"]) == ("second", "b")
        assert failed["total_s"] > 0
        assert "damaged" in failed["reason"]
        assert (restored["target"], restored["request_id"]) == ("a", "restart")


def test_stop_of_a_model_gives_up_its_seat_only(shell):
    with stub_daemon() as daemon:
        client = daemon.client()
        assert serves(client, "a")
        code, error = shell(daemon, "stop", "b")
        assert (code, error["error"]["code"]) == (6, "not_seated")
        code, view = shell(daemon, "stop", "a")
        assert (code, view["released"]) == (0, "a")
        assert is_empty(client)
        assert serves(client, "b")
        daemon.stop()
        emptied = [e for e in journal(daemon) if e.name == "seat.emptied"]
        assert emptied[0].facts["cause"]["client"].startswith("hotseat-cli[")
