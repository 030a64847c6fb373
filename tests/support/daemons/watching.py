"""Threads that watch a daemon while a test does something: process table and status."""

import threading
import time
from abc import ABC, abstractmethod

import psutil

from hotseat.protocol.messages import Status
from hotseat.protocol.replies import Reply
from tests.support.peers.raw_peer import RawPeer

STATUS_LIMIT_S = 0.05


class Watcher(ABC):
    """Runs `_watch` on a thread while the block lasts; that looks at `_is_over`."""

    def __init__(self):
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @abstractmethod
    def _watch(self):
        """What the thread does."""

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


class WorkerCount(Watcher):
    """Samples how many workers live, from the process table, until it is left."""

    def __init__(self, daemon):
        super().__init__()
        self._daemon = daemon
        self.samples = []

    def _watch(self):
        process = psutil.Process(self._daemon.process.pid)
        while not self._is_over.is_set():
            try:
                children = process.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            self.samples.append(sum(lives(child) for child in children))
            time.sleep(0.001)  # the pace of the samples; nothing is waited for

    def __exit__(self, *_):
        super().__exit__()
        assert len(self.samples) > 10, "nothing was watched"
        assert max(self.samples) <= 1, "two workers at once"
        assert max(self.samples) == 1, "no worker was ever seen"


def lives(process):
    """False for a dead process that nobody reaped yet: with its parent gone that is up to init."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class StatusPace(Watcher):
    """Asks for status again and again and keeps how long each answer took, and each phase."""

    def __init__(self, daemon):
        super().__init__()
        self._daemon = daemon
        self.seconds = []
        self.phases = set()

    def _watch(self):
        with RawPeer(self._daemon.endpoint().requests) as peer:
            number = 0
            while not self._is_over.is_set():
                number += 1
                began = time.monotonic()
                peer.say(Status(), f"s{number}")
                reply = peer.answer(f"s{number}")
                self.seconds.append(time.monotonic() - began)
                assert isinstance(reply, Reply)
                self.phases.add(reply.result["phase"])
                time.sleep(0.001)  # the pace of the asking; nothing is waited for


class Background:
    """Runs a call on a thread and keeps its result or its error."""

    def __init__(self, call, *args, **options):
        self._call = lambda: call(*args, **options)
        self._result = None
        self._error = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def result(self, timeout_s=30):
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"no end within {timeout_s} s"
        if self._error is not None:
            raise self._error
        return self._result

    def error(self, timeout_s=30):
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"no end within {timeout_s} s"
        assert self._error is not None, f"no error, but {self._result!r}"
        return self._error

    @property
    def is_over(self):
        return not self._thread.is_alive()
