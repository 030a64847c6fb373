"""The home folder: where it is, that it is private, that sockets fit."""

import os
import stat
from pathlib import Path

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.home import MAX_SOCKET_BYTES, Home


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_home_comes_from_argument_then_variable_then_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"HOTSEAT_HOME": str(tmp_path / "b")}
    assert Home.find(tmp_path / "a", environ).root == tmp_path / "a"
    assert Home.find(None, environ).root == tmp_path / "b"
    assert Home.find(None, {}).root == tmp_path / ".hotseat"
    assert Home.find(None, {"HOTSEAT_HOME": "~/c"}).root == tmp_path / "c"


def test_relative_home_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Home.find(Path("x/../y"), {}).root == tmp_path / "y"


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_made_folders_are_private_under_any_umask(tmp_path, umask):
    home = Home(tmp_path / "home")
    before = os.umask(umask)
    try:
        home.create()
    finally:
        os.umask(before)
    folders = (home.root, home.run_dir, home.models_dir, home.kv_dir, home.logs_dir)
    assert {mode(folder) for folder in folders} == {0o700}
    home.create()


def test_home_that_others_may_write_to_is_refused(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    home.kv_dir.chmod(0o770)
    with pytest.raises(HotseatError, match="chmod go-w") as caught:
        home.create()
    assert caught.value.code == "invalid_config"
    assert caught.value.facts["path"] == str(home.kv_dir)


# Without root only the refusal of open folders, above, is shown.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_home_of_another_user_is_refused(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    os.chown(home.root, 12345, -1)
    with pytest.raises(HotseatError, match="belongs to user 12345"):
        home.create()


def test_home_that_cannot_be_made_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(HotseatError, match="HOTSEAT_HOME"):
        Home(tmp_path / "file" / "home").create()
    with pytest.raises(HotseatError, match="no folder"):
        Home(tmp_path / "file").create()


def test_short_home_has_its_sockets_in_run(tmp_path):
    home = Home(Path("/tmp/h"))
    assert home.socket_path("requests") == Path("/tmp/h/run/requests.sock")


def test_long_home_has_its_sockets_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    homes = [Home(tmp_path / (letter * 90)) for letter in "ab"]
    paths = [home.socket_path("requests") for home in homes]
    try:
        assert all(len(os.fsencode(path)) <= MAX_SOCKET_BYTES for path in paths)
        assert paths[0] != paths[1]
        assert paths[0] == homes[0].socket_path("requests")
        assert mode(paths[0].parent) == 0o700
    finally:
        for path in paths:
            path.parent.rmdir()


def test_fallback_folder_that_was_planted_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    home = Home(tmp_path / ("x" * 90))
    folder = home.socket_path("requests").parent
    folder.rmdir()
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with pytest.raises(HotseatError, match="other users"):
            home.socket_path("requests")
    finally:
        folder.rmdir()


def test_limit_itself_still_fits():
    name = "n" * (MAX_SOCKET_BYTES - len("/h/run/.sock"))
    assert Home(Path("/h")).socket_path(name) == Path(f"/h/run/{name}.sock")
    with pytest.raises(HotseatError, match="104 bytes"):
        Home(Path("/h")).socket_path(name + "n")
