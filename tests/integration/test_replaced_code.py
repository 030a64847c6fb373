"""hotseat is installed anew under a running daemon: two versions never work together."""

import shutil
from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, expected, serves, stub_daemon

ROOT = Path(__file__).parents[2]
TREES = ("protocol", "supervisor", "worker")
OWN = 'VERSION: Final = "'


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A copy of the code that daemons started now run from; a call puts another version there."""
    for tree in TREES:
        shutil.copytree(ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setenv("PYTHONPATH", ":".join(str(tmp_path / tree) for tree in TREES))
    file = tmp_path / "protocol/hotseat/protocol/version.py"
    return lambda version: file.write_text(f'from typing import Final\n{OWN}{version}"\n')


def test_swap_after_an_upgrade_is_refused_before_the_drain_and_done_after_a_restart(install):
    with stub_daemon("ab") as daemon, daemon.client(reconnect_timeout_s=30) as client:
        assert serves(client, "a")
        pid = client.status().worker.pid
        install("9.9.9")
        for refused in (
            error_of(client.swap, "b"),
            error_of(client.generate("b", prompt="x", max_tokens=3).result),
        ):
            assert refused.code == "restart_needed"
            assert "upgraded to 9.9.9" in refused.message and "`hotseat restart`" in refused.message
            assert refused.facts["installed"] == "9.9.9"
        assert serves(client, "a") and client.status().worker.pid == pid
        wait_for(lambda: "9.9.9" in "".join(client.status().notices), what="notice")
        daemon.stop()
        daemon.start()
        assert serves(client, "b") and client.status().version == "9.9.9"


def test_request_whose_worker_dies_after_an_upgrade_goes_on_under_the_next_daemon(install):
    with stub_daemon("a", slow_token_s=0.01, reply_tokens=100_000) as daemon:
        client = daemon.client(reconnect_timeout_s=30)
        stream = client.generate("a", prompt="tale", session="s", max_tokens=60)
        chunks = [next(stream) for _ in range(3)]
        install("9.9.9")
        watcher = daemon.client()
        (worker,) = daemon.workers()
        worker.kill()
        wait_for(lambda: watcher.status().phase == "empty", what="no worker of other code")
        assert daemon.workers() == []
        assert watcher.status().queue.waiting == 1
        daemon.stop()
        daemon.start()
        chunks += list(stream)
        assert tuple(t for chunk in chunks for t in chunk.tokens) == expected("a", "tale", 60)
