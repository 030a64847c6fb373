"""Memory that other programs hold: the refusal names them, and the ways out of it work."""

import os

import pytest
from tests.support.daemons.commands import cli_json
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import error_of, register, serves
from tests.support.peers.fake_ollama import FakeOllama
from tests.support.peers.mac_host import mac_host
from tests.support.peers.scripted_daemon import COMMAND, VARIABLE, write_memory

from hotseat.protocol.limits import GIB

LLAMA = 6 * GIB
PAGES = mac_host(
    free_count=1000, internal_page_count=500_000, wire_count=90_000, compressor_page_count=70_000
).pages()


class Mac:
    """A daemon on a machine of 24 GiB that tells levels, beside an Ollama with a model loaded."""

    def __init__(self, base):
        self.file = base / "memory.json"
        self.set()
        self.ollama = FakeOllama(("llama3:8b", LLAMA), unloaded=lambda: self.set(available=16))
        self.daemon = LiveDaemon(stub={})
        host = f"127.0.0.1:{self.ollama.server_port}"
        plain = self.daemon.environment
        self.daemon.environment = lambda: (
            plain()
            | {
                VARIABLE: str(self.file),
                "OLLAMA_HOST": host,
            }
        )
        self.daemon.command = COMMAND

    def set(self, available=10, level=1):
        memory = {"total": 24 * GIB, "available": available * GIB, "level": level, "wired": GIB}
        write_memory(self.file, **memory, pages=PAGES)


@pytest.fixture
def mac(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "memory.json"))
    made = Mac(tmp_path)
    register(made.daemon, "a")
    register(made.daemon, "big", weights_bytes=12 * GIB)
    with made.ollama, made.daemon:
        yield made


@pytest.fixture
def client(mac):
    with mac.daemon.client() as connected:
        connected.swap("a")
        yield connected


def calls(client):
    return client.swap, lambda model: client.generate(model, prompt="x").result()


@pytest.mark.parametrize("asked", [0, 1])
def test_refusal_has_both_numbers_and_names_the_model_that_is_in_the_way(mac, client, asked):
    epoch = client.status().epoch
    error = error_of(calls(client)[asked], "big")
    assert error.code == "memory_pressure"
    assert error.facts["needed_bytes"] == pytest.approx(13.3 * GIB, rel=0.01)
    assert error.facts["available_bytes"] == pytest.approx(10 * GIB, rel=0.01)
    assert "`ollama stop llama3:8b`" in error.message
    assert error.facts["others"][0]["size_bytes"] == LLAMA
    assert serves(client, "a")
    assert client.status().epoch == epoch, "something was drained in vain"
    assert mac.ollama.models, "nothing is unloaded unless somebody says so"


def test_unload_others_makes_room_and_the_model_is_seated(mac, client):
    assert client.swap("big", unload_others=True).to == "big"
    assert mac.ollama.models == {}


def test_unload_others_touches_nobody_while_there_is_room(mac, client):
    mac.set(available=20)
    assert client.swap("big", unload_others=True).to == "big"
    assert mac.ollama.models == {"llama3:8b": LLAMA}


def test_forced_model_is_seated_and_comes_back_after_its_worker_died(mac, client):
    report = client.swap("big", force=True)
    assert report.to == "big"
    assert report.memory.wired_not_back_bytes == 0
    assert mac.ollama.models
    epoch = client.status().epoch
    os.kill(client.status().worker.pid, 9)
    wait_for(lambda: client.status().epoch > epoch and client.status().phase == "ready")
    assert client.status().model == "big"
    assert client.swap("a").to == "a"
    assert error_of(client.swap, "big").code == "memory_pressure", "forced once is not for ever"


def test_status_tells_every_class_of_page(mac, client):
    assert client.status().memory.pages == PAGES
    code, view = cli_json(mac.daemon, "status")
    assert code == 0
    assert set(view["memory"]["pages"]) == set(PAGES.__struct_fields__)
    assert view["memory"]["pages"]["compressed_bytes"] == PAGES.compressed_bytes


def test_swap_of_the_command_line_takes_the_ways_out(mac, client):
    code, printed = cli_json(mac.daemon, "swap", "big")
    assert (code, printed["error"]["code"]) == (8, "memory_pressure")
    code, report = cli_json(mac.daemon, "swap", "big", "--unload-others")
    assert (code, report["to"]) == (0, "big")
    mac.set(available=5)
    client.swap("a", force=True)
    code, report = cli_json(mac.daemon, "swap", "big", "--force")
    assert (code, report["to"]) == (0, "big")
