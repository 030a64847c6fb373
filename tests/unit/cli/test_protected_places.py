"""No job is installed that macOS would ask about before it speaks; the doctor says the same."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hotseat.cli.checks import all_checks
from hotseat.cli.launchd import job, launchctl, service, state
from hotseat.cli.launchd.job import Job
from hotseat.cli.launchd.service import Service
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.home import Home

CLONE = "Documents/hotseat"
PLACES = ("program", "Python environment", "package", "home folder")


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("SUDO_USER", raising=False)
    return tmp_path


def service_of(user, monkeypatch, protected):
    """A service whose `protected` place lies in a clone under Documents."""
    places = {place: user / (CLONE if place == protected else ".local") for place in PLACES}
    monkeypatch.setattr(sys, "prefix", str(places["Python environment"]))
    monkeypatch.setattr(job, "__file__", str(places["package"] / "launchd" / "job.py"))
    made = Job(
        label="local.hotseat",
        program=(str(places["program"] / "hotseat"),),
        home=Home(places["home folder"] / ".hotseat"),
        exit_time_out_s=400,
    )
    return Service(made, SimpleNamespace(is_there=True))


@pytest.mark.parametrize("protected", PLACES)
def test_install_refuses_what_lies_in_a_protected_folder(user, monkeypatch, protected):
    asked = service_of(user, monkeypatch, protected)
    with pytest.raises(HotseatError) as caught:
        asked.install()
    text = caught.value.message
    assert caught.value.code == "invalid_config" and str(user / "Documents") in text
    assert protected in text
    wanted = "HOTSEAT_HOME" if protected == "home folder" else "uv tool install"
    assert wanted in text
    assert not asked.plist_path.exists() and not asked.job.home.root.exists()


def test_doctor_names_the_same_places_and_the_way_out(user, monkeypatch):
    asked = service_of(user, monkeypatch, "Python environment")
    monkeypatch.setattr(launchctl, "Launchctl", lambda: SimpleNamespace(is_there=True))
    monkeypatch.setattr(service, "open_service", lambda: asked)
    monkeypatch.setattr(state, "read_state", lambda *_: SimpleNamespace(findings=()))
    (found,) = all_checks.check_service(asked.job.home)
    assert found.level == "warning" and "Python environment" in found.text
    assert "pipx install" in found.remedy


def test_installation_elsewhere_needs_no_grant(user, monkeypatch):
    asked = service_of(user, monkeypatch, None)
    asked._refuse_protected()
