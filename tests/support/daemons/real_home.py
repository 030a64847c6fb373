"""Daemons with real models, and what their tests need besides: kills, heavy weights."""

import json
import os
import signal
from contextlib import contextmanager

import mlx.core as mx
import psutil

from hotseat.protocol.limits import MIB
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.watching import Watcher
from tests.support.models.tiny_models import (
    register_tiny,
    tiny_config,
    tiny_weights,
    write_tokenizer,
)

WIDE = 32_768
"""Intermediate size of a heavy model: 3 layers x 3 matrices x 64 x WIDE x 4 bytes = 72 MiB."""
HEAVY_BYTES = 120 * MIB
"""Above a worker without weights (about 80 MiB), below one with them (about 155 MiB)."""
SAMPLE_S = 0.005


@contextmanager
def tiny_daemon(models, settings=""):
    """A running daemon with real workers and `models`: names, and how each differs from a llama."""
    daemon = LiveDaemon(settings=settings)
    for name, options in models.items():
        register_tiny(daemon.home, name, **({"kind": "llama"} | options))
    with daemon:
        yield daemon


def kill_worker(daemon):
    """SIGKILL to the seated worker; returns when it is gone."""
    with daemon.client() as client:
        pid = client.status().worker.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), what="worker gone")


def register_heavy(home, name, seed=0):
    """A llama whose weights stand out in the process table."""
    from hotseat.library.importing import import_model

    folder = home / "src" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config("llama") | {"intermediate_size": WIDE}
    (folder / "config.json").write_text(json.dumps(config))
    weights = tiny_weights(config, seed=seed)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_tokenizer(folder)
    return import_model(folder, home, name, lambda _phase, _percent: None)


class ProcessTable(Watcher):
    """Samples the memory of the workers of all `daemons` while the block runs.

    Only children of the daemons count: what a worker runs itself (mlx asks for the compiler's
    version) shares its pages until it is another program.
    """

    def __init__(self, *daemons):
        super().__init__()
        self._pids = [daemon.process.pid for daemon in daemons]
        self.seen_heavy = set()
        self.crowded = []
        """Samples in which more than one process held weights: pids and bytes."""

    def _watch(self):
        while not self._is_over.wait(SAMPLE_S):
            heavy = [
                (child.pid, size)
                for pid in self._pids
                for child in _children(pid)
                if (size := _resident(child)) >= HEAVY_BYTES
            ]
            self.seen_heavy.update(pid for pid, _ in heavy)
            if len(heavy) > 1:
                self.crowded.append(heavy)


def _children(pid):
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _resident(process):
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
