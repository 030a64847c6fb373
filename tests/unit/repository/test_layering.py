"""What may not be imported, shown in processes: mlx stays in the worker, the namespace is open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.models.tiny_models import register_tiny

ROOT = Path(__file__).parents[3]
SOURCES = [ROOT / name for name in ("protocol", "supervisor", "worker")]
HEAVY = {"mlx", "mlx_lm", "numpy", "transformers", "tokenizers", "torch", "gguf"}
EVERY_MODULE = """
import importlib, pkgutil, sys
for name in {packages}:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
tops = {{name.partition(".")[0] for name in sys.modules}}
ours = {{".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("hotseat.")}}
print(sorted(tops & {heavy}), sorted(ours))
"""


def test_namespace_has_no_init_file():
    """One __init__.py would hide the other source roots."""
    assert [source for source in SOURCES if (source / "hotseat" / "__init__.py").exists()] == []
    assert all((source / "hotseat").is_dir() for source in SOURCES)


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (["hotseat.protocol"], {"hotseat.protocol"}),
        (["hotseat.client"], {"hotseat.client", "hotseat.protocol"}),
        (
            ["hotseat.supervisor", "hotseat.cli"],
            {"hotseat.cli", "hotseat.supervisor", "hotseat.client", "hotseat.protocol"},
        ),
    ],
)
def test_every_module_imports_without_mlx_and_the_worker(packages, allowed):
    code = EVERY_MODULE.format(packages=packages, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[] {sorted(allowed)}\n"


class TracedDaemon(LiveDaemon):
    """Reports each import of the supervisor on its stderr; workers' stderr goes elsewhere."""

    def environment(self):
        return super().environment() | {"PYTHONPROFILEIMPORTTIME": "1"}


def imported(report):
    """Modules named in a report of `-X importtime`."""
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def of_the_worker(modules):
    return {
        name
        for name in modules
        if name.partition(".")[0] in HEAVY or name.startswith(("hotseat.worker", "hotseat.library"))
    }


def test_supervisor_that_served_and_swapped_never_imported_mlx():
    daemon = TracedDaemon()
    for name in ("a", "b"):
        register_tiny(daemon.home, name, "llama")
    with daemon:
        client = daemon.client()
        for model in ("a", "b"):
            client.generate(model, prompt="once", max_tokens=3).result()
        client.plan("a")
        client.models()
        if sys.platform == "linux":
            maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
            assert "/mlx" not in maps
            worker = Path(f"/proc/{client.status().worker.pid}/maps").read_text()
            assert "/mlx" in worker, "the test cannot tell"
        assert daemon.stop() == 0
        modules = imported(daemon.stderr())
    assert "hotseat.supervisor.daemon.daemon" in modules
    assert of_the_worker(modules) == set()


def test_command_line_that_ran_a_turn_never_imported_mlx_or_the_supervisor():
    daemon = LiveDaemon()
    register_tiny(daemon.home, "a", "llama")
    with daemon:
        done = subprocess.run(
            [
                sys.executable,
                "-X",
                "importtime",
                "-m",
                "hotseat.cli.main",
                "run",
                "a",
                "once",
                "--max-tokens",
                "3",
                "--json",
            ],
            env=daemon.environment() | {"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    modules = imported(done.stderr)
    assert "hotseat.client.sync" in modules
    assert of_the_worker(modules) == set()
    assert {name for name in modules if name.startswith("hotseat.supervisor")} == set()
