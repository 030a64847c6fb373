"""What tests with real models need beside a daemon: kills, the command line, heavy weights."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import mlx.core as mx
import psutil

from daemon_harness import wait_for
from tiny_models import tiny_config, tiny_weights, write_tokenizer

HOTSEAT = [sys.executable, "-m", "hotseat.cli.main"]
WIDE = 65_536
"""Intermediate size of a heavy model: 3 layers x 3 matrices x 64 x WIDE x 4 bytes = 144 MiB."""


def kill_worker(daemon):
    """SIGKILL to the seated worker; returns when it is gone."""
    with daemon.client() as client:
        pid = client.status().worker.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), what="worker gone")


def cli(daemon, *args, stdin=None):
    """Exit code, stdout and stderr of one call of the program in the daemon's home."""
    done = subprocess.run(
        [*HOTSEAT, *args],
        env=daemon.environment(),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def cli_json(daemon, *args):
    """Exit code and the one JSON object that a `--json` call prints."""
    code, out, err = cli(daemon, *args, "--json")
    assert "Traceback" not in err, err
    assert out.count("\n") == 1, out
    return code, json.loads(out)


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


class ProcessTable:
    """Samples the memory of all worker processes while the block runs.

    Workers are recognised by their command line, whoever started them: daemons of other homes
    that run inside the block count too.
    """

    def __init__(self, daemons, heavy_bytes):
        self._daemons = daemons
        self._heavy_bytes = heavy_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples = 0
        self.seen_heavy = set()
        self.crowded = []
        """Samples in which more than one process held weights: pids and bytes."""

    def _run(self):
        while not self._stop.is_set():
            heavy = [
                (child.pid, size)
                for daemon in self._daemons
                for child in daemon.workers()
                if (size := _resident(child)) >= self._heavy_bytes
            ]
            self.samples += 1
            self.seen_heavy.update(pid for pid, _ in heavy)
            if len(heavy) > 1:
                self.crowded.append(heavy)
            time.sleep(0.002)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def _resident(process):
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
