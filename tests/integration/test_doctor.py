"""`hotseat doctor`: finds what is wrong, names the remedy, changes nothing."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from tests.support.peers.fake_daemon import FakeDaemon
from tests.support.peers.fake_views import status_view

from hotseat.cli.checks import all_checks
from hotseat.cli.main import run


@pytest.fixture
def home(home, monkeypatch):
    monkeypatch.setenv("HOTSEAT_SEAT_LOCK", str(home / "seat.lock"))
    return home


@pytest.fixture
def doctor(home, capsys):
    def call():
        code = run(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        return code, {finding["name"]: finding for finding in found["findings"]}

    return call


def test_fresh_home_without_daemon_is_not_bad(doctor, home):
    code, found = doctor()
    assert code == 0
    assert found["daemon"]["level"] == "warning" and "hotseat serve" in found["daemon"]["remedy"]
    assert [entry.name for entry in home.iterdir()] == []


def test_every_finding_that_is_not_good_has_a_remedy(doctor, home):
    (home / "config.toml").write_text("x = 1")
    _, found = doctor()
    assert [f for f in found.values() if f["level"] != "ok" and not f["remedy"]] == []


def test_bad_setting_is_found_with_its_line(doctor, home):
    (home / "config.toml").write_text("\n[memory]\nreserve = 1\n")
    code, found = doctor()
    assert code == 1
    assert ":3: memory.reserve" in found["config"]["text"]
    assert "disk" in found and "memory" in found


def test_home_open_to_others_is_found(doctor, home):
    home.chmod(0o755)
    code, found = doctor()
    assert code == 1 and found["home"]["remedy"] == f"chmod go-rwx {home}"


def test_floor_above_the_free_space_is_found(doctor, home):
    (home / "config.toml").write_text('[kv]\nfree_floor_bytes = "9000 TiB"\n')
    code, found = doctor()
    assert code == 1 and "below the floor" in found["disk"]["text"]


def test_long_socket_path_is_named(doctor, home, monkeypatch):
    monkeypatch.setenv("HOTSEAT_HOME", str(home / ("x" * 100)))
    _, found = doctor()
    assert found["socket"]["level"] == "warning" and "shorter path" in found["socket"]["remedy"]


def test_holder_of_the_seat_is_named(doctor, home):
    note = {"pid": 1, "user": "eve\x1b[31m", "model": "big", "size_bytes": 2**30, "since": 0.0}
    (home / "seat.lock").write_text(json.dumps(note))
    _, found = doctor()
    assert found["seat"]["text"] == "held: big (1.0 GiB), eve[31m, process 1"


def test_running_daemon_is_greeted(doctor, home):
    with FakeDaemon(home):
        _, found = doctor()
    assert found["daemon"]["level"] == "ok"


def test_older_daemon_is_named_with_the_restart(doctor, home):
    with FakeDaemon(home) as daemon:
        daemon.vanish()
        daemon.version = "0.0.1"
        daemon.come_back("two")
        _, found = doctor()
    assert "hotseat service restart" in found["daemon"]["remedy"]


def test_errors_of_the_gpu_and_notices_are_told_with_what_to_do(doctor, monkeypatch):
    view = replace(status_view("one", 1), gpu_errors=2, notices=("weights are not wired",))
    client = SimpleNamespace(status=lambda: view, models=list, welcome=None)
    monkeypatch.setattr(all_checks, "connected", lambda: nullcontext(client))
    code, found = doctor()
    assert code == 1
    assert "2 workers" in found["GPU"]["text"] and "restart the Mac" in found["GPU"]["remedy"]
    assert found["notice"]["text"] == "weights are not wired"


def test_screen_has_a_line_a_finding_and_the_remedy_below(home, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    home.chmod(0o755)
    run(["doctor"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    line = next(number for number, text in enumerate(out.splitlines()) if text.startswith("bad"))
    assert "-> chmod go-rwx" in out.splitlines()[line + 1]
