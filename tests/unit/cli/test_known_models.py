"""A key is for models that exist: other names are refused with what was nearly meant."""

import pytest

from hotseat.cli.home.known_models import check_model_names
from hotseat.protocol.errors import HotseatError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('[aliases]\ncoder = "qwen"\n"gpt-*" = "seated"\n')


@pytest.mark.parametrize("names", [(), ("coder",), ("seated", "gpt-9")])
def test_aliases_and_the_seated_model_may_be_named(names):
    check_model_names(names)


@pytest.mark.parametrize(
    ("name", "text"),
    [("codre", "did you mean coder[?] else register it first"), ("zz", "see `hotseat models`, or")],
)
def test_name_of_nothing_is_refused_with_the_way_out(name, text):
    with pytest.raises(HotseatError, match=text) as refused:
        check_model_names(("coder", name))
    assert refused.value.code == "unknown_model"
