"""The walk through upgrade and rollback of docs/operations.md, with a daemon of this version."""

import sqlite3
import subprocess
import sys

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import QUIET, register, serves

from hotseat.supervisor.catalogue import schema

NEWER = 99


@pytest.fixture
def daemon():
    made = LiveDaemon(stub={}, settings=QUIET)
    register(made, "a")
    yield made
    made.__exit__()


def serve(daemon):
    return subprocess.run(
        [sys.executable, "-m", "hotseat.cli.main", "serve"],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def version_of(path):
    with sqlite3.connect(path) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return version


def test_home_of_the_first_version_is_taken_over(daemon):
    path = daemon.home / "catalogue.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(schema._V1 + "PRAGMA user_version = 1;")
    db.close()
    daemon.start()
    with daemon.client() as client:
        assert serves(client, "a")
    daemon.stop()
    assert version_of(path) == schema.SCHEMA_VERSION


def test_going_back_is_refused_first_and_loses_no_conversation_then(daemon):
    daemon.start()
    with daemon.client() as client:
        client.generate("a", prompt="x" * 300, session="s", max_tokens=5).result()
    daemon.stop()
    path = daemon.home / "catalogue.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {NEWER}")
    db.close()
    refused = serve(daemon)
    assert refused.returncode == 2
    assert f"catalogue version {NEWER}" in refused.stderr and "move the file away" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert version_of(path) == NEWER
    for file in daemon.home.glob("catalogue.sqlite*"):
        file.rename(daemon.base / file.name)
    daemon.start()
    with daemon.client() as client:
        again = client.generate("a", session="s", append="y", max_tokens=5).result()
    assert again.turn == 2 and again.usage.prompt_tokens > 300, "the whole conversation"
