"""Metal's limit binds from the first hello on, and for the daemon after this one."""

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import error_of, register, serves
from tests.support.peers.scripted_daemon import COMMAND, VARIABLE, write_memory

from hotseat.protocol.limits import GIB


class Mac:
    """24 GiB with nothing else on it; its workers say they may wire 17."""

    def __init__(self, base, *, standby=False):
        self.file = base / "memory.json"
        self.set()
        self.daemon = LiveDaemon(stub={"working_set_bytes": 17 * GIB}, standby=standby)
        plain = self.daemon.environment
        self.daemon.environment = lambda: plain() | {VARIABLE: str(self.file)}
        self.daemon.command = COMMAND
        register(self.daemon, "a")
        register(self.daemon, "heavy", weights_bytes=18 * GIB)

    def set(self, switch=0):
        memory = {"total": 24 * GIB, "available": 23 * GIB, "level": 1, "wired": GIB}
        write_memory(self.file, **memory, wired_limit_mb=switch)


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "memory.json"))


def refused(client):
    error = error_of(client.swap, "heavy")
    assert (error.code, error.facts["binding"]) == ("model_unfit", "working_set")
    assert "iogpu.wired_limit_mb" in error.facts["remedy"]


def test_model_above_the_limit_is_not_loaded_by_the_first_worker_that_knows_it(tmp_path):
    mac = Mac(tmp_path)
    with mac.daemon, mac.daemon.client() as client:
        error = error_of(client.swap, "heavy")
        assert error.code == "model_unfit", "found out after the hello, before the load"
        assert "working_set" in error.message
        epoch = client.status().epoch
        refused(client)
        assert client.status().epoch == epoch, "and known from there on"
        assert serves(client, "a")


def test_limit_that_the_standby_told_is_planned_with_before_anything_is_seated(tmp_path):
    mac = Mac(tmp_path, standby=True)
    with mac.daemon, mac.daemon.client() as client:
        wait_for(lambda: client.status().standby.ready, what="a standby")
        refused(client)
        assert client.status().epoch == 0


def test_limit_is_known_to_the_next_daemon_and_asked_anew_when_its_switch_is_turned(tmp_path):
    mac = Mac(tmp_path)
    with mac.daemon:
        with mac.daemon.client() as client:
            client.swap("a")
            mac.daemon.stop()
        mac.daemon.start()
        with mac.daemon.client() as client:
            refused(client)
            assert client.status().epoch == 0, "no worker was needed for that"
            assert client.plan("heavy").working_set_bytes == 17 * GIB
            mac.set(switch=20 * 1024)
            assert client.plan("heavy").working_set_bytes == 20 * GIB
