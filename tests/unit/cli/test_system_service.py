"""A job of the system: whose daemon it runs, what only root may do, and where its list lies."""

import plistlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.daemons.plist_dtd import faults

from hotseat.cli.launchd import account as accounts
from hotseat.cli.launchd import job as jobs
from hotseat.cli.launchd.account import Account, own_account
from hotseat.cli.launchd.job import home_of, is_of_system, make_job
from hotseat.cli.launchd.launchctl import Answer, LoadedJob
from hotseat.cli.launchd.service import Service, open_service
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Deadlines

GOLDEN = Path(__file__).parents[3] / "deploy" / "launchd" / "local.hotseat.system.plist"
YOU = Account(name="you", uid=501, gid=20, home=Path("/Users/you"))
PROGRAM = (str(YOU.home / ".local/bin/hotseat"),)


class Launchd:
    """Knows no job, takes every one, and notes what it was told."""

    is_there = True

    def __init__(self):
        self.calls = []

    def find(self, label):
        self.calls.append(("find", label))

    def is_disabled(self, _label):
        return False

    def enable(self, label):
        self.calls.append(("enable", label))
        return Answer(0, "")

    def bootstrap(self, plist):
        self.calls.append(("bootstrap", str(plist)))
        return Answer(0, "")


@pytest.fixture
def mac(tmp_path, monkeypatch):
    """Folders of a Mac, and who calls: `uid` may be changed."""
    made = SimpleNamespace(
        uid=0, acted=[], user=Account(name="you", uid=501, gid=20, home=tmp_path / "you")
    )
    made.user.home.mkdir()
    made.daemons = tmp_path / "LaunchDaemons"
    made.daemons.mkdir()
    monkeypatch.setattr(jobs, "DAEMONS_DIR", made.daemons)
    monkeypatch.setattr(accounts.os, "geteuid", lambda: made.uid)
    monkeypatch.setattr(accounts.os, "seteuid", made.acted.append)
    monkeypatch.setattr(accounts.os, "setegid", lambda _gid: None)
    listed = SimpleNamespace(pw_name="you", pw_uid=501, pw_gid=20, pw_dir=str(made.user.home))
    root = SimpleNamespace(pw_name="root", pw_uid=0, pw_gid=0, pw_dir="/var/root")
    monkeypatch.setattr(accounts.pwd, "getpwnam", lambda _name: listed)
    monkeypatch.setattr(accounts.pwd, "getpwuid", lambda uid: listed if uid == 501 else root)
    monkeypatch.delenv("HOTSEAT_HOME", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    return made


def service(mac):
    job = make_job(home_of(mac.user), PROGRAM, Deadlines(), mac.user)
    return Service(job, Launchd())


def refusal(call):
    with pytest.raises(HotseatError) as caught:
        call()
    return caught.value


def test_plist_of_the_system_equals_the_golden_one_byte_for_byte():
    made = make_job(Home(YOU.home / ".hotseat"), PROGRAM, Deadlines(), YOU)
    assert made.plist() == GOLDEN.read_bytes()
    assert faults(GOLDEN.read_bytes()) == []
    assert made.plist_path == Path("/Library/LaunchDaemons/local.hotseat.plist")


def test_job_of_the_system_runs_as_its_user_with_that_users_home():
    content = plistlib.loads(GOLDEN.read_bytes())
    assert content["UserName"] == "you"
    variables = content["EnvironmentVariables"]
    assert (variables["HOME"], variables["USER"]) == ("/Users/you", "you")
    assert variables["HOTSEAT_HOME"] == "/Users/you/.hotseat"


def test_everything_else_is_as_in_the_job_of_a_login():
    own = plistlib.loads((GOLDEN.parent / "local.hotseat.plist").read_bytes())
    system = plistlib.loads(GOLDEN.read_bytes())
    del system["UserName"]
    for name in ("HOME", "USER"):
        del system["EnvironmentVariables"][name]
    assert system == own


def test_user_behind_sudo_is_whose_daemon_it_is(mac):
    assert own_account({"SUDO_USER": "you"}) == mac.user
    assert home_of(mac.user, {"HOME": "/var/root"}).root == mac.user.home / ".hotseat"
    assert home_of(mac.user, {"HOTSEAT_HOME": "/data/h"}).root == Path("/data/h")


def test_variable_of_sudo_means_nothing_without_its_rights(mac):
    mac.uid = 501
    assert own_account({"SUDO_USER": "somebody"}).name == "you"


@pytest.mark.parametrize("verb", ["install", "uninstall", "start", "stop", "restart"])
def test_what_changes_a_job_of_the_system_needs_root(mac, verb):
    mac.uid = 501
    error = refusal(getattr(service(mac), verb))
    assert error.code == "invalid_request" and "`sudo`" in error.message
    assert list(mac.daemons.iterdir()) == []


def test_daemon_of_root_itself_is_refused(mac):
    job = make_job(Home(mac.user.home / "h"), PROGRAM, Deadlines(), own_account({}))
    error = refusal(Service(job, Launchd()).install)
    assert "runs as root" in error.message and "--system" in error.message


def test_job_of_the_login_session_is_removed_first(mac):
    agent = mac.user.home / "Library" / "LaunchAgents" / "local.hotseat.plist"
    agent.parent.mkdir(parents=True)
    agent.touch()
    error = refusal(service(mac).install)
    assert error.code == "already_running" and "service uninstall" in error.message


def test_install_makes_the_home_as_the_user_and_the_list_as_root(mac, monkeypatch):
    made = service(mac)
    created = []
    monkeypatch.setattr(Home, "create", lambda home: created.append((home.root, mac.acted[-1])))
    monkeypatch.setattr(Service, "_await_welcome", lambda _self: "welcome")
    assert made.install() == "welcome"
    assert created == [(mac.user.home / ".hotseat", 501)] and mac.acted == [501, 0]
    path = mac.daemons / "local.hotseat.plist"
    assert path.read_bytes() == made.job.plist()
    assert made.launchctl.calls[-1] == ("bootstrap", str(path))
    assert is_of_system(mac.user)


def test_daemon_is_greeted_as_its_user(mac, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "hotseat.client.sync.Client",
        lambda **_: seen.append(mac.acted[-1]) or SimpleNamespace(close=lambda: None),
    )
    service(mac).greet(SimpleNamespace(requests="ipc:///x"))
    assert seen == [501] and mac.acted == [501, 0]


def test_commands_find_the_job_of_the_system_by_themselves(mac, monkeypatch):
    monkeypatch.setattr(
        "hotseat.cli.launchd.service.Launchctl",
        lambda *, system: SimpleNamespace(is_there=True, system=system, find=lambda _: LoadedJob()),
    )
    mac.uid = 501
    assert not open_service().launchctl.system
    (mac.daemons / "local.hotseat.plist").touch()
    found = open_service()
    assert found.launchctl.system and found.job.account == mac.user
    assert open_service(system=True).plist_path == mac.daemons / "local.hotseat.plist"


def test_service_of_a_login_under_sudo_names_the_other_kind(mac, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "you")
    job = make_job(Home(mac.user.home / ".hotseat"), PROGRAM, Deadlines())
    error = refusal(lambda: Service(job, Launchd()))
    assert "without sudo" in error.message and "--system" in error.message
