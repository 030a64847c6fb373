"""A session that is quiet gets its last tokens on disk, however busy the seat is."""

from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import stub_daemon

SETTINGS = "[kv]\nidle_checkpoint_s = 0.4\n"
SLOW = {"slow_token_s": 0.01, "reply_tokens": 100_000}


def view_of(client, session):
    return next(view for view in client.sessions() if view.session == session)


def is_durable(client, session):
    view = view_of(client, session)
    return view.durable_tokens == view.tokens


def test_quiet_session_is_written_while_another_one_runs():
    with stub_daemon("a", settings=SETTINGS, **SLOW) as daemon:
        client = daemon.client()
        busy = client.generate("a", append="go on", session="busy", max_tokens=100_000)
        next(iter(busy))
        client.generate("a", append="a few words", session="quiet", max_tokens=5).result()
        wait_for(lambda: is_durable(client, "quiet"), what="the quiet session on disk")
        assert client.status().queue.running == 1
        busy.cancel()
        busy.result()


def test_session_in_use_again_is_written_after_its_last_turn():
    with stub_daemon("a", settings=SETTINGS) as daemon:
        client = daemon.client()
        for _ in range(3):
            client.generate("a", append="a few words", session="s", max_tokens=5).result()
        wait_for(lambda: is_durable(client, "s"), what="the session on disk")
        assert client.disk().tags[0].tails == 1
