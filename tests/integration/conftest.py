"""What many files here begin with: a home, a daemon, and what talks to it.

A file that wants a live daemon for all its tests says with `DAEMON` how one is made, a call without
arguments that gives a context manager; other files talk to a fake one.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from tests.support.peers.fake_daemon import FakeDaemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.client import AsyncClient
from hotseat.protocol.discovery import ENDPOINT_VARIABLE


@pytest.fixture
def home(monkeypatch):
    """A folder short enough for socket paths, where commands of this process look."""
    folder = Path(tempfile.mkdtemp(prefix="hs-"))
    monkeypatch.setenv("HOTSEAT_HOME", str(folder))
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fake_daemon(home):
    with FakeDaemon(home) as made:
        yield made


@pytest.fixture(scope="module")
def live_daemon(request):
    with request.module.DAEMON() as made:
        yield made
        assert "Traceback" not in made.stderr()


@pytest.fixture
def daemon(request):
    is_live = hasattr(request.module, "DAEMON")
    return request.getfixturevalue("live_daemon" if is_live else "fake_daemon")


@pytest.fixture
def client(daemon):
    with daemon.client() as made:
        yield made


@pytest.fixture
async def aio(fake_daemon):
    async with AsyncClient(home=fake_daemon.home, name="tests") as made:
        yield made


@pytest.fixture
def peer(daemon):
    with RawPeer(daemon.endpoint().requests) as made:
        yield made
