"""LoRA adapters: part of the tag, loaded with the model, refused when they do not fit."""

import pytest
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens
from tests.support.models.lora import make_lora
from tests.support.models.tiny_models import make_tiny

from hotseat.library.importing import import_model
from hotseat.protocol.errors import HotseatError


def quiet(_phase, _percent):
    pass


@pytest.fixture
def base(tmp_path):
    return make_tiny(tmp_path / "base", "llama")


def test_model_with_an_adapter_has_a_tag_and_an_answer_of_its_own(tmp_path, base):
    adapter = make_lora(tmp_path / "adapter", base)
    home = tmp_path / "home"
    plain = import_model(base, home, "plain", quiet)
    tuned = import_model(base, home, "tuned", quiet, adapter=adapter)
    assert tuned.adapter == str(adapter)
    assert tuned.tag != plain.tag
    assert tuned.tag_parts.adapter != plain.tag_parts.adapter
    answers = []
    for record in (plain, tuned, tuned):
        supervisor = FakeSupervisor(record, tmp_path / "kv" / record.tag)
        supervisor.seat()
        answers.append(supervisor.turn(prompt_tokens(20), max_tokens=12).tokens)
        supervisor.unseat()
    assert answers[0] != answers[1]
    assert answers[1] == answers[2], "dropout is on"


def test_adapter_of_another_model_is_refused_with_the_reason(tmp_path, base):
    other = make_tiny(tmp_path / "other", "gpt_oss")
    adapter = make_lora(tmp_path / "adapter", other)
    with pytest.raises(HotseatError, match="does not fit") as caught:
        import_model(base, tmp_path / "home", "m", quiet, adapter=adapter)
    assert caught.value.code == "model_unavailable"
    assert not (tmp_path / "home" / "models" / "m").exists()


def test_folder_without_an_adapter_is_refused(tmp_path, base):
    with pytest.raises(HotseatError, match=r"no adapter_config\.json"):
        import_model(base, tmp_path / "home", "m", quiet, adapter=tmp_path)
