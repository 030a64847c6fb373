"""Gateways as processes of their own, and what clients of theirs knock with."""

import os
import signal
import socket
import subprocess
import sys
from functools import cached_property

import anthropic
import httpx2
import ollama
import openai

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
    """The gateway of a home, killed and started again at one port; leaving it ends it."""

    def __init__(self, home, *flags, **environment):
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "hotseat.cli.main", "gateway", "--port", str(self.port)]
        self._command = [*command, *flags]
        self._environment = os.environ | {"HOTSEAT_HOME": str(home)} | environment
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, env=self._environment)
        wait_for(lambda: listens(self.port), what="gateway listens")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def key(self):
        """The key of its door."""
        return (self.home / "http.key").read_text().strip()

    @property
    def headers(self):
        """What opens the door."""
        return {"authorization": f"Bearer {self.key}"}

    @cached_property
    def http(self):
        return httpx2.Client(base_url=self.url, headers=self.headers, timeout=60)

    @cached_property
    def openai(self):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    @cached_property
    def anthropic(self):
        return anthropic.Anthropic(
            base_url=self.url, auth_token=self.key, api_key=None, max_retries=0
        )

    @cached_property
    def ollama(self):
        return ollama.Client(self.url, headers=self.headers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in ("http", "openai", "anthropic"):
            if name in vars(self):
                vars(self)[name].close()
        self.process.terminate()
        self.process.wait(15)
