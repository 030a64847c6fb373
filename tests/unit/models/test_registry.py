"""Which models are known, and that changed or missing files are noticed."""

import hashlib
import os
import sys

import msgspec
import pytest
from msgspec import structs
from tests.support.models.records import model_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import (
    Capabilities,
    FileDigest,
    LayerSpec,
    ModelSource,
    StateSpec,
    TemplateProbe,
)
from hotseat.protocol.tags import kv_part, model_tag
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.models.rules.prefill import as_fed_on
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import ModelSettings, Settings


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    return home


def write_model(folder, *, kind="gguf", weights=None, **changes):
    """A registered model with one weight file; `weights` is the folder the file lies in."""
    weights = weights or folder
    folder.mkdir(exist_ok=True)
    weights.mkdir(exist_ok=True)
    file = weights / "model.safetensors"
    file.write_bytes(b"weights")
    found = file.stat()
    digest = FileDigest(
        name=file.name,
        size_bytes=found.st_size,
        mtime_ns=found.st_mtime_ns,
        blake2b=hashlib.blake2b(b"weights").hexdigest(),
    )
    record = model_record(
        folder.name,
        path=str(weights),
        files=(digest,),
        source=ModelSource(kind=kind, path="/x"),
        **changes,
    )
    (folder / "model.json").write_bytes(msgspec.json.encode(record))
    return record


def error_of(registry, name):
    with pytest.raises(HotseatError) as caught:
        registry.get(name)
    return caught.value


def test_new_import_is_noticed_without_restart(home):
    registry = Registry(home, Settings(), nobody)
    assert registry.records() == []
    record = write_model(home.models_dir / "qwen")
    assert registry.get("qwen") == as_fed_on(record, sys.platform)
    assert registry.names() == ["qwen"]


def test_reimport_under_the_same_name_is_noticed(home):
    registry = Registry(home, Settings(), nobody)
    write_model(home.models_dir / "qwen")
    registry.get("qwen")
    write_model(home.models_dir / "qwen", context_tokens=77)
    assert registry.get("qwen").context_tokens == 77


def test_unchanged_record_is_not_read_again(home):
    registry = Registry(home, Settings(), nobody)
    write_model(home.models_dir / "qwen")
    assert registry.get("qwen") is registry.get("qwen")


def test_unknown_name_offers_near_ones(home):
    registry = Registry(home, Settings(), nobody)
    assert "hotseat import" in error_of(registry, "qwen3").message
    write_model(home.models_dir / "qwen3-8b")
    write_model(home.models_dir / "gemma")
    error = error_of(registry, "qwen3-8")
    assert (error.code, error.facts["near"]) == ("unknown_model", ["qwen3-8b"])
    assert error_of(registry, "zzz").facts["near"] == []


@pytest.mark.parametrize("harm", ["missing", "shorter", "touched"])
def test_changed_files_make_the_model_unavailable(home, harm):
    registry = Registry(home, Settings(), nobody)
    record = write_model(home.models_dir / "qwen")
    file = home.models_dir / "qwen" / "model.safetensors"
    match harm:
        case "missing":
            file.unlink()
        case "shorter":
            file.write_bytes(b"w")
        case _:
            os.utime(file, ns=(1, 1))
    error = error_of(registry, "qwen")
    assert error.code == "model_unavailable"
    assert str(file) in error.message
    assert "import it again" in error.message
    view = registry.view(record)
    assert (view.state, str(file) in view.reason) == ("unavailable", True)


@pytest.mark.parametrize(
    "name",
    ["chat_template.jinja", "additional_chat_templates/tool_use.jinja", "model-2.safetensors"],
)
def test_file_that_came_since_makes_the_model_unavailable_until_it_goes(home, name):
    registry = Registry(home, Settings(), nobody)
    record = write_model(home.models_dir / "qwen")
    file = home.models_dir / "qwen" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("{{ messages }}")
    error = error_of(registry, "qwen")
    assert error.code == "model_unavailable"
    assert str(file) in error.message
    assert "import it again" in error.message
    assert registry.view(record).state == "unavailable"
    file.unlink()
    assert registry.get("qwen") == as_fed_on(record, sys.platform)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\x00"])
def test_damaged_record_is_listed_as_unavailable(home, content):
    registry = Registry(home, Settings(), nobody)
    write_model(home.models_dir / "good")
    (home.models_dir / "bad").mkdir()
    (home.models_dir / "bad" / "model.json").write_bytes(content)
    assert [record.name for record in registry.records()] == ["good"]
    assert error_of(registry, "bad").code == "model_unavailable"
    (view,) = registry.damaged()
    assert (view.name, view.state) == ("bad", "unavailable")
    assert "damaged" in view.reason


def test_record_of_another_version_is_unavailable(home):
    write_model(home.models_dir / "qwen", record_version=99)
    assert "version 99" in error_of(Registry(home, Settings(), nobody), "qwen").message


def test_half_made_folders_are_no_models(home):
    write_model(home.models_dir / ".importing-x")
    (home.models_dir / "empty").mkdir()
    assert Registry(home, Settings(), nobody).names() == []


def test_renamed_folder_renames_the_model(home):
    write_model(home.models_dir / "old", weights=home.root / "elsewhere")
    (home.models_dir / "old").rename(home.models_dir / "new")
    assert Registry(home, Settings(), nobody).get("new").name == "new"


def test_settings_narrow_the_context_and_name_other_folders(home):
    write_model(home.models_dir / "a", context_tokens=1000)
    write_model(home.root / "b")
    models = {
        "a": ModelSettings(context_tokens=5000, prefill_chunk=512),
        "c": ModelSettings(path=str(home.root / "b"), context_tokens=10),
    }
    registry = Registry(home, Settings(models=models), nobody)
    assert (registry.get("a").context_tokens, registry.get("a").prefill_chunk) == (1000, 512)
    assert (registry.get("c").name, registry.get("c").context_tokens) == ("c", 10)


def test_chunk_is_that_of_the_machine_unless_it_is_set(home):
    for name in ("a", "b"):
        write_model(home.models_dir / name)
    settings = Settings(models={"b": ModelSettings(prefill_chunk=768)})
    for system, tokens in (("darwin", 512), ("linux", 256)):
        registry = Registry(home, settings, nobody, system)
        assert registry.get("a").prefill_chunk == tokens
        assert registry.get("a").stores_scores is (system == "linux")
        assert registry.get("b").prefill_chunk == 768


def test_view_shows_the_callers_state_or_its_own(home):
    registry = Registry(home, Settings(), nobody)
    record = write_model(home.models_dir / "a")
    unfit = write_model(home.models_dir / "b", unfit_reason="recurrent layers")
    assert registry.view(record).state == "ready"
    assert registry.view(record).kv_bytes_per_token == record.kv_bytes_per_token
    assert registry.view(record, state="seated").state == "seated"
    assert registry.view(unfit).reason == "recurrent layers"
    assert registry.view(unfit).state == "unfit"


def test_view_says_what_the_caches_allow_unless_the_model_cannot_be_served(home):
    state = LayerSpec(kind="state", states=(StateSpec(shape=(4, 8), dtype="float32"),))
    record = write_model(home.models_dir / "hybrid", layers=(state,), batches=False)
    unfit = write_model(home.models_dir / "unfit", unfit_reason="chunked", layers=())
    registry = Registry(home, Settings(), nobody)
    hybrid = registry.view(record)
    assert hybrid.capabilities == Capabilities(cuts="snapshots", batches=False)
    assert hybrid.state_bytes == 4 * 8 * 4
    assert registry.view(unfit).capabilities is None


def test_removing_an_import_deletes_its_folder(home):
    write_model(home.models_dir / "a")
    registry = Registry(home, Settings(), nobody)
    assert registry.remove("a") > len(b"weights")
    assert list(home.models_dir.iterdir()) == []
    assert error_of(registry, "a").code == "unknown_model"


def test_removing_a_model_in_place_keeps_the_users_files(home):
    users = home.root / "mine"
    write_model(home.models_dir / "a", kind="mlx", weights=users)
    Registry(home, Settings(), nobody).remove("a")
    assert (users / "model.safetensors").read_bytes() == b"weights"
    assert not (home.models_dir / "a").exists()


def test_removing_a_users_folder_below_models_takes_only_the_record(home):
    write_model(home.models_dir / "a", kind="mlx")
    Registry(home, Settings(), nobody).remove("a")
    assert [file.name for file in (home.models_dir / "a").iterdir()] == ["model.safetensors"]


def test_removing_follows_no_symlink(home):
    target = home.root / "target"
    write_model(target)
    (home.models_dir / "a").symlink_to(target)
    Registry(home, Settings(), nobody).remove("a")
    assert (target / "model.safetensors").exists()


def test_model_of_the_settings_is_removed_there(home):
    write_model(home.root / "b")
    registry = Registry(
        home, Settings(models={"c": ModelSettings(path=str(home.root / "b"))}), nobody
    )
    with pytest.raises(HotseatError, match=r"config\.toml"):
        registry.remove("c")
    assert registry.names() == ["c"]
    with pytest.raises(HotseatError, match="zz"):
        registry.remove("zz")


def test_model_on_an_unmounted_volume_is_unavailable_not_unknown(home):
    settings = Settings(models={"far": ModelSettings(path="/Volumes/SSD/models/far")})
    with pytest.raises(HotseatError) as caught:
        Registry(home, settings, nobody).get("far")
    assert caught.value.code == "model_unavailable"
    assert "volume /Volumes/SSD is not mounted; mount it" in caught.value.message


def test_link_to_a_volume_that_is_gone_is_unavailable(home, tmp_path):
    (home.models_dir / "far").symlink_to(tmp_path / "gone" / "far")
    with pytest.raises(HotseatError) as caught:
        Registry(home, Settings(), nobody).get("far")
    assert caught.value.code == "model_unavailable" and "mounted?" in caught.value.message


def test_model_registered_under_an_older_layout_has_the_tag_of_what_is_stored_now(home):
    old = structs.replace(model_record().tag_parts, kv="layout=0;dtype=bfloat16;mlx-lm-0.31")
    write_model(home.models_dir / "m", tag=model_tag(old), tag_parts=old)
    record = Registry(home, Settings(), nobody).get("m")
    assert record.tag_parts == structs.replace(old, kv=kv_part("bfloat16"))
    assert record.tag == model_tag(record.tag_parts) != model_tag(old)


def test_model_whose_template_an_older_version_looked_at_says_what_to_do(home):
    write_model(home.models_dir / "m", template=TemplateProbe(mode="exact"))
    registry = Registry(home, Settings(), nobody)
    view = registry.view(registry.get("m"))
    assert view.state == "ready"
    assert "`hotseat import /x --name m`" in view.reason


def test_model_registered_by_this_version_has_nothing_to_say(home):
    write_model(home.models_dir / "m")
    registry = Registry(home, Settings(), nobody)
    assert registry.view(registry.get("m")).reason == ""
