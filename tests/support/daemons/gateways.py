"""Gateways as processes of their own, and how a client of theirs knocks."""

import os
import socket
import subprocess
import sys

from tests.support.daemons.live_daemon import wait_for


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def listens(port):
    """True once somebody takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Gateway:
    """A running gateway of a home; leaving it ends it."""

    def __init__(self, home, *flags):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        command = [sys.executable, "-m", "hotseat.cli.main", "gateway", "--port", str(self.port)]
        environment = os.environ | {"HOTSEAT_HOME": str(home)}
        self.process = subprocess.Popen([*command, *flags], env=environment)
        wait_for(lambda: listens(self.port), what="gateway listens")

    @property
    def key(self):
        """The key of its door."""
        return (self._home / "http.key").read_text().strip()

    @property
    def headers(self):
        """What opens the door."""
        return {"authorization": f"Bearer {self.key}"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(15)
