"""What may not be imported, shown in processes: mlx stays in the worker, the namespace is open."""

import ast
import json
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
import importlib, json, pkgutil, sys
visited = {packages}
for name in list(visited):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        visited.append(module.name)
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(json.dumps([visited, list(sys.modules)]))
"""


def modules_on_disk():
    """Names of all modules and packages below `hotseat`, as the files say."""
    names = set()
    for source in SOURCES:
        for file in (source / "hotseat").rglob("*.py"):
            parts = file.relative_to(source).with_suffix("").parts
            names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_namespace_has_no_init_file():
    """One __init__.py would hide the other source roots."""
    assert [source for source in SOURCES if (source / "hotseat" / "__init__.py").exists()] == []
    assert all((source / "hotseat").is_dir() for source in SOURCES)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_folder_with_modules_is_a_package_that_says_what_it_is_for(source):
    """A walk over packages does not enter a folder without __init__.py."""
    top = source / "hotseat"
    folders = {file.parent for file in top.rglob("*.py")}
    folders |= {parent for folder in folders for parent in folder.parents if top in parent.parents}
    inits = {folder / "__init__.py" for folder in folders - {top}}
    assert inits
    assert [file for file in inits if not file.exists()] == []
    assert [file for file in inits if not ast.get_docstring(ast.parse(file.read_text()))] == []


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
    code = EVERY_MODULE.format(packages=packages)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    visited, loaded = json.loads(done.stdout)
    below = tuple(f"{package}." for package in packages)
    assert set(visited) == {name for name in modules_on_disk() if f"{name}.".startswith(below)}
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("hotseat.")}
    assert ours == allowed


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
