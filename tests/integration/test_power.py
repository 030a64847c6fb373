"""A good neighbour: awake while there is work, asleep without it, and well after a sleep."""

import signal

import psutil
import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import QUIET, serves, stub_daemon

from hotseat.protocol.replies import Event
from hotseat.supervisor.machine.sleep_assertion import CAFFEINATE_VARIABLE

HELPER = "#!/bin/sh\nexec sleep 600\n"
SLOW = {"slow_token_s": 0.02, "reply_tokens": 500}
SLEEPLESS = "[power]\non_battery = true\n"


class Guarded(LiveDaemon):
    """A daemon that keeps the machine awake with a program of ours."""

    def environment(self):
        program = self.base / "caffeinate"
        program.write_text(HELPER)
        program.chmod(0o700)
        return super().environment() | {CAFFEINATE_VARIABLE: str(program)}

    def helpers(self):
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.name() == "sleep"]


def guarded(settings=SLEEPLESS, **faults):
    return stub_daemon(daemon=Guarded(stub=SLOW | faults, settings=QUIET + settings))


def test_assertion_is_held_while_a_request_runs_and_let_go_some_seconds_after():
    with guarded() as daemon:
        client = daemon.client()
        client.swap("a")
        stream = client.generate("a", prompt="go", max_tokens=500)
        next(iter(stream))
        wait_for(lambda: client.status().keeps_awake == "request")
        assert len(daemon.helpers()) == 1
        stream.cancel()
        stream.result()
        wait_for(lambda: not daemon.helpers())
        assert client.status().keeps_awake == ""


def test_assertion_is_held_during_a_swap_and_ends_with_the_daemon():
    with guarded() as daemon, daemon.held("load"):
        client = daemon.client()
        client.generate("a", prompt="go", max_tokens=1, on_vanish="cancel")
        wait_for(lambda: client.status().keeps_awake == "swap")
        helpers = daemon.helpers()
        daemon.stop()
        assert not any(helper.is_running() for helper in helpers)


@pytest.mark.parametrize("settings", ["[power]\nprevent_sleep = false\n"])
def test_nothing_is_held_when_the_settings_say_so(settings):
    with guarded(settings) as daemon:
        client = daemon.client()
        assert serves(client, "a")
        assert (client.status().keeps_awake, daemon.helpers()) == ("", [])


def test_daemon_that_was_stopped_says_that_it_woke_and_keeps_its_clients():
    with guarded() as daemon:
        client = daemon.client()
        assert serves(client, "a")
        daemon.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(psutil.TimeoutExpired):
            psutil.Process(daemon.process.pid).wait(2.5)
        daemon.process.send_signal(signal.SIGCONT)
        heard = client.events(since=0, topics=("system.woke",))
        event = next(item for item in heard if isinstance(item, Event))
        assert event.facts["stopped_s"] > 2.0
        assert event.facts["slept_s"] == 0.0
        assert serves(client, "a")
