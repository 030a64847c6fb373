"""A real daemon in a process of its own, in a temporary home, with real or stub workers."""

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psutil

from hotseat.client import Client
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.model import RECORD_FILE
from tests.support.stub_worker import COMMAND

START_S = 20.0


def wait_for(condition, timeout_s=20.0, what="condition"):
    """Polls until `condition()` is true and returns its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} not reached within {timeout_s} s"
        time.sleep(0.01)  # between two looks at the condition


def put_record(home, record, folder="models"):
    """Registers a model by its record alone: enough for a stub worker."""
    place = home / folder / record.name
    place.mkdir(parents=True, exist_ok=True)
    (place / RECORD_FILE).write_bytes(msgspec.json.encode(record))
    return record


class LiveDaemon:
    """Started, stopped, killed and started again in one home."""

    def __init__(self, home=None, *, stub=None, settings="", seat_lock=None, standby=False):
        """`stub`: faults of stub workers; None means real workers.

        `standby` is off unless a test is about it, so that a worker in the process table is one
        that has weights or is about to.
        """
        # Short, since unix socket paths are.
        self.base = Path(tempfile.mkdtemp(prefix="hs"))
        # A start that fails has no end that would do it.
        atexit.register(shutil.rmtree, self.base, ignore_errors=True)
        self.home = home or self.base / "h"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.seat_lock = seat_lock or self.base / "seat.lock"
        self.stub = stub
        self.command = [sys.executable, "-m", "hotseat.supervisor"]
        if "[seat]" not in settings:
            settings += f'\n[seat]\nstandby = "{"on" if standby else "off"}"\n'
        (self.home / "config.toml").write_text(settings)
        self.process = None
        self.clients = []

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HOTSEAT_")}
        env |= {"HOTSEAT_HOME": str(self.home), "HOTSEAT_SEAT_LOCK": str(self.seat_lock)}
        if self.stub is not None:
            env["HOTSEAT_WORKER_COMMAND"] = json.dumps(COMMAND)
            env["HOTSEAT_STUB"] = json.dumps({"hold_dir": str(self.base / "holds")} | self.stub)
        return env

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=(self.base / "stderr").open("ab"),
        )
        wait_for(self._is_up, START_S, f"daemon up ({self.stderr()[-2000:]})")
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"daemon ended: {self.stderr()[-4000:]}")
        endpoint = self.endpoint()
        return endpoint is not None and endpoint.pid == self.process.pid

    def endpoint(self):
        try:
            data = (self.home / "run" / "endpoint.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=Endpoint)

    def stderr(self):
        return (self.base / "stderr").read_text(errors="replace")

    def client(self, **options):
        client = Client(endpoint=self.endpoint().requests, **options)
        self.clients.append(client)
        return client

    def workers(self):
        """Live worker processes of this daemon, from the process table."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [
            child
            for child in children
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    @contextlib.contextmanager
    def held(self, point):
        """Stub workers go no further than this point (see `stub_worker.faults`) while it runs."""
        hold = self.base / "holds" / point
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends it in order; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        if self.process.poll() is None:
            self.kill()
            raise AssertionError(f"daemon did not stop: {self.stderr()[-4000:]}")
        return self.process.returncode

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        for client in self.clients:
            with contextlib.suppress(Exception):
                client.close()
        try:
            self.stop()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)
