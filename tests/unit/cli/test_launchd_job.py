"""The launchd job: its property list byte for byte, its keys, its label, its program."""

import plistlib
import sys
from pathlib import Path

import pytest
from tests.support.daemons.plist_dtd import faults

from hotseat.cli.launchd.job import (
    Job,
    agents_dir,
    job_label,
    make_job,
    refuse_passing,
    stable_program,
)
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.seat.rules.exit_bound import exit_bound_s
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Deadlines

GOLDEN = Path(__file__).parents[3] / "deploy" / "launchd" / "local.hotseat.plist"
YOU = Path("/Users/you")


def job(**changes):
    fields = {
        "label": "local.hotseat",
        "program": (str(YOU / ".local/bin/hotseat"),),
        "home": Home(YOU / ".hotseat"),
        "exit_time_out_s": 400,
    }
    return Job(**(fields | changes))


def content(**changes):
    return plistlib.loads(job(**changes).plist())


def test_plist_equals_the_golden_one_byte_for_byte():
    made = make_job(Home(YOU / ".hotseat"), job().program, Deadlines())
    assert (
        Job(
            **{f: getattr(made, f) for f in made.__struct_fields__} | {"label": "local.hotseat"}
        ).plist()
        == GOLDEN.read_bytes()
    )


def test_golden_plist_passes_the_dtd():
    assert faults(GOLDEN.read_bytes()) == []


def test_dtd_check_finds_a_key_without_a_value():
    assert faults(b"<plist><dict><key>a</key></dict></plist>")


def test_exit_time_out_covers_our_deadlines():
    limits = Deadlines(checkpoint_s=1234.0)
    made = make_job(Home(YOU), job().program, limits)
    assert plistlib.loads(made.plist())["ExitTimeOut"] > exit_bound_s(limits) > 1234


def test_job_is_restarted_after_a_crash_and_not_after_a_stop():
    assert content()["KeepAlive"] == {"SuccessfulExit": False}


def test_job_is_interactive_so_that_decoding_is_not_throttled():
    assert content()["ProcessType"] == "Interactive"


def test_workers_go_with_the_job():
    assert "AbandonProcessGroup" not in content()


def test_files_of_the_job_are_private():
    assert content()["Umask"] == 63


def test_every_path_of_the_job_is_absolute():
    plist = content()
    paths = [plist["ProgramArguments"][0], plist["WorkingDirectory"], plist["StandardErrorPath"]]
    paths += plist["EnvironmentVariables"]["PATH"].split(":")
    paths += [plist["EnvironmentVariables"]["HOTSEAT_HOME"]]
    assert [path for path in paths if not path.startswith("/")] == []


def test_open_files_are_raised():
    assert content()["SoftResourceLimits"]["NumberOfFiles"] >= 4096


def test_control_character_in_a_path_is_refused_with_the_way_out():
    with pytest.raises(HotseatError) as caught:
        job(home=Home(Path("/Users/a\rb"))).plist()
    assert caught.value.code == "invalid_config"
    assert "HOTSEAT_HOME" in caught.value.message


def test_default_home_has_the_plain_label(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert job_label(Home(tmp_path / ".hotseat")) == "local.hotseat"
    assert agents_dir() == tmp_path / "Library" / "LaunchAgents"


def test_two_homes_have_two_labels(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    labels = {job_label(Home(tmp_path / name)) for name in (".hotseat", "a", "b")}
    assert len(labels) == 3


@pytest.fixture
def installed(tmp_path):
    """A versioned program and a stable link to it, as package managers lay it out."""
    program = tmp_path / "Cellar" / "1.0" / "bin" / "hotseat"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    link = tmp_path / "bin" / "hotseat"
    link.parent.mkdir()
    link.symlink_to(program)
    return program, link


def test_link_on_path_is_named_not_what_it_points_to(installed):
    program, link = installed
    environ = {"PATH": str(link.parent)}
    assert stable_program(str(program), environ) == (str(link),)
    assert stable_program(str(link), environ) == (str(link),)


def test_link_that_was_called_is_not_resolved(installed):
    _, link = installed
    assert stable_program(str(link), {"PATH": "/nowhere"}) == (str(link),)


def test_other_installation_on_path_is_not_taken(installed, tmp_path):
    program, _ = installed
    other = tmp_path / "other" / "hotseat"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert stable_program(str(program), {"PATH": str(other.parent)}) == (str(program),)


def test_module_is_called_by_the_interpreter_as_it_was_named():
    found = stable_program("/x/hotseat/cli/main.py", {"PATH": ""})
    assert found == (str(Path(sys.executable).absolute()), "-m", "hotseat.cli.main")


@pytest.mark.parametrize("tools", [".local/share/uv/tools", ".local/pipx/venvs"])
def test_shim_of_a_tool_environment_outlives_its_upgrade(tmp_path, tools):
    """As uv and pipx lay it out: the shim stays, the environment behind it is made anew."""
    program = tmp_path / tools / "hotseat" / "bin" / "hotseat"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shim = tmp_path / ".local" / "bin" / "hotseat"
    shim.parent.mkdir(parents=True, exist_ok=True)
    shim.symlink_to(program)
    environ = {"PATH": f"/usr/bin:{shim.parent}"}
    assert stable_program(str(shim), environ) == stable_program(str(program), environ)
    assert stable_program(str(program), environ) == (str(shim),)
    assert stable_program(str(program), {"PATH": "/usr/bin"}) == (str(program),)


@pytest.mark.parametrize(
    "prefix", ["/Users/you/.cache/uv/archive-v0/x1", "/Users/you/Library/Caches/pipx/1a"]
)
def test_environment_in_a_cache_gets_no_service(prefix):
    with pytest.raises(HotseatError) as caught:
        refuse_passing(prefix)
    assert prefix in caught.value.message and "uv tool install" in caught.value.message


def test_environment_of_a_tool_may_have_a_service():
    refuse_passing("/Users/you/.local/share/uv/tools/hotseat")
