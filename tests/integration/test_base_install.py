"""The base install is the client: the wheel in an environment of its own, without extras."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import expected, register

ROOT = Path(__file__).parents[2]
BASE = ("msgpack", "msgspec", "pyzmq")
TALK = """
import json, sys
from hotseat.client import Client
with Client() as client:
    done = client.generate("a", prompt="hello", max_tokens=5).result()
    model = client.status().model
tops = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"tokens": done.tokens, "model": model, "modules": tops}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by the backend itself: no network, no isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("hotseat-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """Interpreter of an environment that has the wheel and the three base requirements only."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([python, *install], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in BASE:
        link_distribution(name, site)
    return python


def link_distribution(name, site):
    """What an index would give: the same distribution as in this environment."""
    found = distribution(name)
    tops = {Path(file).parts[0] for file in found.files} - {".."}
    for top in tops:
        target = site / top
        if not target.exists():
            target.symlink_to(found.locate_file(top))


def test_wheel_carries_types_and_licence_but_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[1] for name in names if name.startswith("hotseat/")}
    assert packages == {
        *("cli", "client", "gateway", "library", "protocol", "supervisor", "worker"),
    }
    assert {f"hotseat/{package}/py.typed" for package in packages} <= set(names)
    assert "hotseat/__init__.py" not in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hotseat"}
    assert [
        name
        for name in names
        if "tests" in Path(name).parts
        or Path(name).name.startswith("test_")
        or name.endswith((".safetensors", ".gguf"))
    ] == []


def test_base_requirements_bring_neither_mlx_nor_the_daemon(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = archive.read(path).decode().splitlines()
    wanted = [
        line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert {line.split()[1].partition("<")[0] for line in wanted} == set(BASE)


def test_client_of_a_base_install_talks_to_a_daemon(bare):
    daemon = LiveDaemon(stub={}, settings="[memory]\nreserve_bytes = 1\n")
    register(daemon, "a")
    with daemon:
        done = subprocess.run(
            [bare, "-c", TALK], env=daemon.environment(), capture_output=True, text=True, check=True
        )
    said = json.loads(done.stdout)
    assert (said["tokens"], said["model"]) == (list(expected("a", "hello", 5)), "a")
    assert {"mlx", "numpy", "click", "structlog", "psutil"} & set(said["modules"]) == set()


@pytest.mark.parametrize("program", ["hotseat", "module", "daemon"])
def test_program_of_a_base_install_says_in_one_sentence_what_to_install(bare, program):
    command = {
        "hotseat": [bare.parent / "hotseat", "status"],
        "module": [bare, "-m", "hotseat.cli.main", "serve"],
        "daemon": [bare, "-m", "hotseat.supervisor"],
    }[program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'hotseat[daemon]'" in done.stderr
