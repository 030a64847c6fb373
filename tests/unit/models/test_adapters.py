"""Adapters that settings name: another tag, and a reason when their files are not what was read."""

import hashlib

import pytest
from tests.support.daemons.stub_home import stub_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import FileDigest
from hotseat.protocol.tags import adapter_digest, model_tag
from hotseat.supervisor.models.adapters import Adapters
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import ModelSettings, Settings


def write_adapter(folder, weights=b"lora"):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_bytes(b"{}")
    (folder / "adapters.safetensors").write_bytes(weights)
    return str(folder)


@pytest.fixture
def home(tmp_path):
    import msgspec

    home = Home(tmp_path / "home")
    home.create()
    place = home.models_dir / "a"
    place.mkdir()
    (place / "model.json").write_bytes(msgspec.json.encode(stub_record("a")))
    return home


def registry_with(home, adapter):
    return Registry(home, Settings(models={"a": ModelSettings(adapter=adapter)}), nobody)


def refused(registry):
    with pytest.raises(HotseatError) as caught:
        registry.get("a")
    assert caught.value.code == "model_unavailable"
    return caught.value.message


def test_adapter_of_the_settings_gives_the_model_another_tag(home, tmp_path):
    plain = Registry(home, Settings(), nobody).get("a")
    folder = write_adapter(tmp_path / "lora")
    record = registry_with(home, folder).get("a")
    assert record.adapter == folder
    assert record.tag != plain.tag and record.tag == model_tag(record.tag_parts)
    assert record.tag_parts.weights == plain.tag_parts.weights
    assert record.weights_bytes == plain.weights_bytes + len(b"{}") + len(b"lora")


def test_same_adapter_elsewhere_gives_the_same_tag(home, tmp_path):
    first = registry_with(home, write_adapter(tmp_path / "one")).get("a").tag
    assert registry_with(home, write_adapter(tmp_path / "two")).get("a").tag == first
    assert registry_with(home, write_adapter(tmp_path / "three", b"x")).get("a").tag != first


def test_digest_is_the_one_that_an_import_takes(tmp_path):
    folder = write_adapter(tmp_path / "lora")
    adapters = Adapters()
    adapters.learn([folder])
    by_hand = [
        FileDigest(
            name=f"/elsewhere/{name}",
            size_bytes=1,
            mtime_ns=1,
            blake2b=hashlib.blake2b(data, digest_size=16).hexdigest(),
        )
        for name, data in (("adapter_config.json", b"{}"), ("adapters.safetensors", b"lora"))
    ]
    assert adapter_digest(adapters.get(folder).files) == adapter_digest(by_hand)


def test_adapter_takes_the_place_of_the_one_of_the_import(home, tmp_path):
    import msgspec

    old = FileDigest(name="/old/adapters.safetensors", size_bytes=100, mtime_ns=1, blake2b="0")
    record = msgspec.structs.replace(
        stub_record("a"), adapter="/old", files=(old,), weights_bytes=1100
    )
    (home.models_dir / "a" / "model.json").write_bytes(msgspec.json.encode(record))
    folder = write_adapter(tmp_path / "lora")
    record = registry_with(home, folder).get("a")
    assert [file.name for file in record.files] == [
        f"{folder}/adapter_config.json",
        f"{folder}/adapters.safetensors",
    ]
    assert record.weights_bytes == 1000 + len(b"{}") + len(b"lora")


def test_missing_adapter_makes_its_model_unavailable_and_no_other(home, tmp_path):
    registry = registry_with(home, str(tmp_path / "none"))
    text = refused(registry)
    assert "adapter_config.json" in text and "hotseat reload" in text
    assert [view.name for view in registry.damaged()] == ["a"]


def test_adapter_on_an_unmounted_volume_says_so(home):
    assert "volume /Volumes/SSD is not mounted" in refused(registry_with(home, "/Volumes/SSD/lora"))


def test_adapter_that_changed_is_refused_until_a_reload(home, tmp_path):
    folder = write_adapter(tmp_path / "lora")
    registry = registry_with(home, folder)
    before = registry.get("a").tag
    write_adapter(tmp_path / "lora", b"more lora")
    assert "was changed" in refused(registry)
    settings = Settings(models={"a": ModelSettings(adapter=folder)})
    registry.learn(settings)
    registry.use(settings)
    assert registry.get("a").tag != before


def test_adapter_that_went_away_is_refused(home, tmp_path):
    folder = write_adapter(tmp_path / "lora")
    registry = registry_with(home, folder)
    registry.get("a")
    (tmp_path / "lora" / "adapters.safetensors").unlink()
    assert "is gone" in refused(registry)
