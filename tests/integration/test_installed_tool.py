"""The wheel in a tool's environment: installed, served by launchd, upgraded, taken away again."""

import json
import plistlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from tests.support.daemons.mac_user import SETTINGS, Mac
from tests.support.models.tiny_models import make_tiny

pytestmark = pytest.mark.installed
ROOT = Path(__file__).parents[2]
QUIET = SETTINGS + "[memory]\nreserve_bytes = 1\n"


@pytest.fixture
def tool():
    """As `uv tool install` leaves it: an environment, and a shim to its program."""
    base = Path(tempfile.mkdtemp(prefix="hs-"))
    environment = base / "tools" / "hotseat"
    run(sys.executable, "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(base), cwd=ROOT)
    (wheel,) = base.glob("hotseat-*.whl")
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel))
    (site,) = environment.glob("lib/python3*/site-packages")
    # What it requires comes from here; lines of its own `.pth` files are not followed.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    shim = base / "bin" / "hotseat"
    shim.parent.mkdir()
    shim.symlink_to(environment / "bin" / "hotseat")
    mac = Mac(base, program=shim, settings=QUIET)
    mac.site = site
    yield mac
    mac.end()
    shutil.rmtree(base, ignore_errors=True)


def run(*command, cwd=None):
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)


def said(tool, *args):
    code, out, err = tool.call(*args, "--json")
    assert code == 0, out + err
    return json.loads(out)


def upgrade(tool, version):
    """What matters of an upgrade: other files at the same place."""
    file = tool.site / "hotseat" / "protocol" / "version.py"
    file.write_text(f'from typing import Final\n\nVERSION: Final = "{version}"\n')


def test_tool_is_installed_served_upgraded_and_taken_away_without_losing_a_turn(tool):
    assert tool.call("--version")[1].split()[-1] != "9.9.9"
    folder = make_tiny(tool.base / "tiny", "llama")
    assert said(tool, "import", str(folder), "--name", "tiny")["name"] == "tiny"

    said(tool, "service", "install")
    content = plistlib.loads(tool.plist.read_bytes())
    assert content["ProgramArguments"][0] == str(tool.hotseat), "the shim outlives an upgrade"
    turn = ("run", "tiny", "--session", "s", "--max-tokens", "3")
    assert said(tool, *turn, "One.")["turn"] == 1

    upgrade(tool, "9.9.9")
    findings = " ".join(entry["text"] for entry in said(tool, "service", "status")["findings"])
    assert "this command 9.9.9" in findings
    assert "upgraded to 9.9.9" in " ".join(said(tool, "status")["notices"])
    assert said(tool, *turn, "Two.")["turn"] == 2, "the seated model goes on"
    assert said(tool, "service", "restart")["version"] == "9.9.9"
    third = said(tool, *turn, "Three.")
    assert third["turn"] == 3 and third["usage"]["restored_tokens"] > 0

    assert said(tool, "service", "uninstall")["uninstalled"]
    assert not tool.plist.exists() and tool.jobs() == {}
    assert (tool.home / "catalogue.sqlite").exists()
