"""`hotseat reload`, aliases and a model at the start, with a real daemon and stub workers."""

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import QUIET, error_of, expected, register, stub_daemon

SEAT = '[seat]\nstandby = "off"\n'


def rewrite(daemon, text):
    (daemon.home / "config.toml").write_text(f"{QUIET}{SEAT}{text}")


@pytest.fixture
def live():
    with stub_daemon("ab") as daemon:
        yield daemon, daemon.client()


def seated(client):
    view = client.status()
    return view.model, view.epoch


def test_wrong_file_is_refused_with_its_line_and_the_old_settings_stay(live):
    daemon, client = live
    rewrite(daemon, '[aliases]\nx = "a"\n')
    client.reload()
    rewrite(daemon, '[aliases]\nx = "b"\n[limits]\nmax_wating = 3\n')
    error = error_of(client.reload)
    assert error.code == "invalid_config" and error.facts["line"] == 8
    assert "max_waiting" in error.message
    assert client.generate("x", prompt="p", max_tokens=3).result().model == "a"


def test_running_model_is_not_touched_by_settings_of_others(live):
    daemon, client = live
    client.swap("a")
    before = seated(client)
    rewrite(daemon, "[models.b]\ncontext_tokens = 512\n[models.a]\npin = true\n")
    view = client.reload()
    assert not view.reseats and len(view.changed) == 2
    assert seated(client) == before


def test_own_settings_swap_the_running_model_for_itself(live):
    daemon, client = live
    done = client.generate("a", prompt="x", session="s", max_tokens=5).result()
    epoch = client.status().epoch
    rewrite(daemon, "[models.a]\ncontext_tokens = 512\n")
    assert client.reload().reseats
    wait_for(lambda: client.status().epoch > epoch and client.status().phase == "ready")
    assert client.status().model == "a"
    again = client.generate("a", session="s", append="y", max_tokens=5).result()
    assert again.usage.restored_tokens > 0 and again.turn == done.turn + 1
    assert [view.context_tokens for view in client.models() if view.name == "a"] == [512]


def test_running_request_goes_on_over_a_reload_that_swaps():
    with stub_daemon("a", reply_tokens=1000, slow_token_s=0.005) as daemon:
        client = daemon.client()
        stream = client.generate("a", prompt="x", max_tokens=200)
        with daemon.held("token"):
            next(stream)
            epoch = client.status().epoch
            rewrite(daemon, "[models.a]\ncontext_tokens = 900\n[deadlines]\ngrace_s = 0.05\n")
            assert client.reload().reseats
            wait_for(lambda: client.status().epoch > epoch, what="the swap for itself")
        assert stream.result().tokens == expected("a", "x", 200)


def test_limits_count_from_the_reload_on(live):
    daemon, client = live
    rewrite(daemon, "[models.b]\nswap = 'never'\n")
    client.reload()
    assert error_of(client.generate("b", prompt="x").result).code == "not_seated"
    rewrite(daemon, "")
    client.reload()
    assert client.generate("b", prompt="x", max_tokens=3).result().model == "b"


def test_setting_that_needs_a_restart_is_named(live):
    daemon, client = live
    (daemon.home / "config.toml").write_text(f'{QUIET}[seat]\nstandby = "on"\n')
    assert client.reload().restart == ("seat.standby",)


def test_alias_of_the_seated_model_follows_the_seat(live):
    daemon, client = live
    rewrite(daemon, '[aliases]\n"gpt-*" = { use = "seated", otherwise = "b" }\n')
    client.reload()
    assert client.generate("gpt-5", prompt="x", max_tokens=3).result().model == "b"
    client.swap("a")
    assert client.generate("gpt-5", prompt="x", max_tokens=3).result().model == "a"
    assert client.plan("gpt-5").model == "a"


def test_model_at_start_takes_the_seat_by_itself():
    daemon = LiveDaemon(stub={}, settings=f'{QUIET}{SEAT}at_start = "b"\n')
    register(daemon, "a", "b")
    with daemon:
        client = daemon.client()
        wait_for(lambda: client.status().model == "b", what="b seated")


def test_missing_model_at_start_is_told_and_keeps_nobody_out():
    daemon = LiveDaemon(stub={}, settings=f'{QUIET}{SEAT}at_start = "c"\n')
    register(daemon, "a")
    with daemon:
        client = daemon.client()
        assert "seat.at_start" in client.status().notices[0]
        assert client.generate("a", prompt="x", max_tokens=2).result().model == "a"


def test_pinned_model_keeps_the_seat_when_idle():
    keep = f'{QUIET}[seat]\nstandby = "off"\nkeep_alive_s = 0.2\n[models.a]\npin = true\n'
    with stub_daemon("ab", daemon=LiveDaemon(stub={}, settings=keep)) as daemon:
        client = daemon.client()
        client.swap("b")
        wait_for(lambda: client.status().phase == "empty", what="b released")
        client.swap("a")
        kept = client.status().epoch
        client.swap("b")
        wait_for(lambda: client.status().phase == "empty", what="b released")
        client.swap("a")
        # A ticker that released it would have done so in the time b was released in.
        wait_for(lambda: client.status().seated_for_s > 1.0, what="a seated for a while")
        assert client.status().model == "a" and client.status().epoch > kept
