"""`[folders]`: models, contexts and log elsewhere; what cannot be used is refused with its line."""

import msgspec
import pytest
from tests.support.daemons.stub_home import stub_record

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.placed_home import find_placed, open_home
from hotseat.supervisor.settings.reader import load_settings


def home_with(tmp_path, text):
    root = tmp_path / "home"
    root.mkdir(exist_ok=True)
    (root / "config.toml").write_text(text)
    return root


def refusal(tmp_path, text):
    with pytest.raises(HotseatError) as caught:
        open_home(home_with(tmp_path, text))
    assert caught.value.code == "invalid_config"
    return caught.value


def test_home_without_the_section_goes_on_as_before(tmp_path):
    home, _ = open_home(home_with(tmp_path, ""))
    assert home == Home(tmp_path / "home")
    assert (home.models_dir, home.kv_dir) == (home.root / "models", home.root / "kv")
    assert home.log_file == home.root / "logs" / "hotseat.log"


def test_named_folders_are_used_and_made_private(tmp_path):
    text = "".join(f'{name} = "{tmp_path}/big-{name}"\n' for name in ("models", "kv", "logs"))
    home, _ = open_home(home_with(tmp_path, f"[folders]\n{text}"))
    home.create()
    assert home.models_dir == tmp_path / "big-models"
    assert home.kv_dir.stat().st_mode & 0o777 == 0o700
    assert home.log_file == tmp_path / "big-logs" / "hotseat.log"
    assert home.catalogue.parent == home.run_dir.parent == home.root


def test_relative_folder_is_seen_from_the_settings(tmp_path):
    home, _ = open_home(home_with(tmp_path, '[folders]\nkv = "../kv2"\n'))
    home.create()
    assert (tmp_path / "kv2").is_dir()


@pytest.mark.parametrize("name", ["kv", "logs"])
def test_unmounted_folder_is_refused_with_its_line_and_a_remedy(tmp_path, name):
    text = f'[memory]\nreserve_bytes = 1\n[folders]\n{name} = "/Volumes/SSD/x"\n'
    error = refusal(tmp_path, text)
    assert error.facts["line"] == 4 and error.facts["field"] == f"folders.{name}"
    assert "volume /Volumes/SSD is not mounted; mount it" in error.message


def test_folder_without_a_parent_is_refused(tmp_path):
    error = refusal(tmp_path, f'[folders]\nkv = "{tmp_path}/no/kv"\n')
    assert "no parent folder" in error.message
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["models", "kv", "logs"])
def test_file_in_the_place_of_a_folder_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    error = refusal(tmp_path, f'[folders]\n{name} = "{tmp_path}/file"\n')
    assert "is no folder" in error.message


def test_models_that_are_away_are_unavailable_and_nothing_is_made(tmp_path):
    home, settings = open_home(home_with(tmp_path, '[folders]\nmodels = "/Volumes/SSD/models"\n'))
    home.create()
    with pytest.raises(HotseatError) as caught:
        Registry(home, settings, nobody).get("a")
    assert caught.value.code == "model_unavailable"
    assert "volume /Volumes/SSD is not mounted" in caught.value.message


def test_models_are_found_where_the_settings_say(tmp_path):
    home, settings = open_home(home_with(tmp_path, f'[folders]\nmodels = "{tmp_path}/m"\n'))
    home.create()
    place = tmp_path / "m" / "a"
    place.mkdir()
    (place / "model.json").write_bytes(msgspec.json.encode(stub_record("a")))
    assert Registry(home, settings, nobody).names() == ["a"]


def test_who_only_looks_takes_the_plain_home_while_the_file_is_wrong(tmp_path, monkeypatch):
    root = home_with(tmp_path, "[folders]\nkv = 3\n")
    monkeypatch.setenv("HOTSEAT_HOME", str(root))
    assert find_placed() == Home(root)
    with pytest.raises(HotseatError, match="is no path"):
        load_settings(root / "config.toml")
