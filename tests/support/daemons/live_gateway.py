"""A gateway in a process of its own before a daemon, and what agents talk to it with."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import anthropic
import httpx2
import openai

from tests.support.daemons.live_daemon import wait_for


class LiveGateway:
    """Started, killed and started again at one port."""

    def __init__(self, home):
        self.home = home
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.start()
        self.key = (home / "http.key").read_text().strip()
        headers = {"authorization": f"Bearer {self.key}"}
        self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=60)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)
        self.anthropic = anthropic.Anthropic(
            base_url=self.url, auth_token=self.key, api_key=None, max_retries=0
        )

    def start(self):
        command = [sys.executable, "-m", "hotseat.cli.main", "gateway", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=os.environ | {"HOTSEAT_HOME": str(self.home)})
        wait_for(self._listens, what="gateway listens")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def gateway_of(home):
    """A running gateway of the daemon of this home."""
    made = LiveGateway(home)
    try:
        yield made
    finally:
        made.http.close()
        made.openai.close()
        made.anthropic.close()
        made.process.terminate()
        made.process.wait(15)


def _free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]
