"""`hotseat service` with a fake launchctl that starts real daemons and fails in known ways."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from tests.support.daemons.mac_user import HOTSEAT, SETTINGS, Mac

from hotseat.cli.launchd.job import job_label
from hotseat.supervisor.settings.home import Home


@pytest.fixture
def mac():
    base = Path(tempfile.mkdtemp(prefix="hs-"))
    mac = Mac(base)
    yield mac
    mac.end()
    shutil.rmtree(base, ignore_errors=True)


def test_install_ends_with_a_daemon_that_answers(mac):
    installed = mac.service("install")
    assert json.loads(mac.call("status", "--json")[1])["pid"] == installed["pid"]


def test_install_enables_before_it_bootstraps(mac):
    mac.service("install")
    verbs = mac.verbs()
    assert verbs.index("enable") < verbs.index("bootstrap")


def test_disabled_item_is_enabled_and_starts(mac):
    (mac.launchd / "disabled.json").write_text('["local.hotseat"]')
    assert mac.service("install")["pid"] > 0


def test_error_5_of_bootstrap_is_tried_again(mac):
    mac.has_faults(busy_bootstraps=2)
    mac.service("install")
    assert mac.verbs().count("bootstrap") == 3


def test_slow_bootout_is_waited_for_before_the_next_bootstrap(mac):
    first = mac.service("install")
    mac.has_faults(slow_bootout=8)
    assert mac.service("install")["pid"] != first["pid"]
    assert mac.verbs().count("bootstrap") == 2


def test_missing_graphical_session_is_named(mac):
    mac.has_faults(no_domain=1)
    assert "log in on the Mac's screen" in mac.fail("install")["message"]


def test_daemon_that_dies_at_once_is_quoted(mac):
    mac.has_faults(broken_start=3)
    error = mac.fail("install")
    assert "no such module" in error["message"] and "exit code 3" in error["message"]


def test_daemon_started_by_hand_is_not_fought(mac):
    mac.call("restart")
    try:
        error = mac.fail("install")
    finally:
        mac.call("stop")
    assert error["code"] == "already_running" and "hotseat stop" in error["message"]


def test_stop_start_and_restart_leave_the_job_installed(mac):
    first = mac.service("install")["pid"]
    assert mac.service("stop")["stopped"]
    assert not mac.service("stop")["stopped"]
    second = mac.service("start")["pid"]
    third = mac.service("restart")["pid"]
    assert len({first, second, third}) == 3 and mac.plist.exists()


def test_status_of_a_running_service_has_nothing_to_complain_of(mac):
    mac.service("install")
    state = mac.service("status")
    assert [finding["level"] for finding in state["findings"]] == ["ok"]
    assert state["running"] and state["current"] and state["login_item"] == "hotseat"


def test_status_without_an_installed_service_names_the_command(mac):
    assert mac.service("status")["findings"][0]["remedy"].startswith("`hotseat service install`")


def spoil(mac, old, new):
    mac.plist.write_text(mac.plist.read_text().replace(old, new))


def complaints(mac):
    code, out, _ = mac.call("service", "status", "--json")
    return code, " ".join(finding["text"] for finding in json.loads(out)["findings"])


def test_status_names_a_program_that_is_gone(mac):
    mac.service("install")
    spoil(mac, f"{HOTSEAT}</string>", "/gone/hotseat</string>")
    code, text = complaints(mac)
    assert code == 9 and "/gone/hotseat is gone" in text


def test_status_names_a_time_out_below_our_deadlines(mac):
    mac.service("install")
    (mac.home / "config.toml").write_text(f"{SETTINGS}[deadlines]\ncheckpoint_s = 5000\n")
    code, text = complaints(mac)
    assert code == 9 and "ExitTimeOut is 400 s, a stop may take 5100 s" in text


def test_uninstall_ends_the_daemon_and_keeps_the_rest(mac):
    mac.service("install")
    assert mac.service("uninstall")["uninstalled"]
    assert not mac.plist.exists() and mac.jobs() == {}
    assert (mac.home / "catalogue.sqlite").exists()


def test_purge_without_consent_lists_nothing_away(mac):
    mac.service("install")
    assert "--yes" in mac.fail("uninstall", "--purge")["message"]
    assert mac.plist.exists() and mac.home.exists()


def test_purge_removes_the_home_and_says_what_went(mac):
    mac.service("install")
    outside = mac.base / "weights"
    outside.mkdir()
    (outside / "model.safetensors").write_bytes(b"x" * 1000)
    (mac.home / "models" / "mine").symlink_to(outside)
    removed = mac.service("uninstall", "--purge", "--yes")["removed"]
    assert not mac.home.exists() and (outside / "model.safetensors").exists()
    assert {"imported models (folders registered in place keep their files)", "logs"} <= {
        entry["what"] for entry in removed
    }
    assert all(entry["size_bytes"] < 500_000 for entry in removed if "models" in entry["path"])


def test_second_home_gets_a_job_of_its_own(mac):
    mac.service("install")
    other = mac.user / "other"
    mac.env["HOTSEAT_HOME"] = str(other)
    other.mkdir(mode=0o700)
    label = mac.service("status")["label"]
    assert label == job_label(Home(other)) != "local.hotseat"


def test_service_without_launchd_says_what_to_do_instead(mac):
    mac.env["HOTSEAT_LAUNCHCTL"] = "/nowhere/launchctl"
    assert "hotseat serve" in mac.fail("install")["message"]


def test_output_that_launchd_caught_is_shown(mac):
    mac.has_faults(broken_start=3)
    mac.fail("install")
    assert mac.call("service", "logs")[1].splitlines()[-1] == "no such module"


def test_restart_leaves_an_installed_daemon_to_launchd(mac):
    first = mac.service("install")["pid"]
    restarted = json.loads(mac.call("restart", "--json")[1])["pid"]
    assert restarted != first and mac.service("status")["pid"] == restarted
