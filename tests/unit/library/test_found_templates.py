"""Whether a model that was found could be given tools, told by the text of its template."""

import pytest
from tests.support.models import call_templates
from tests.support.models.kinds.architecture import Architecture
from tests.support.models.reshaped import edit_json
from tests.support.models.tiny_models import AGENT, CHATML, make_tiny

from hotseat.library.discovery.looking import Spot, look_at_folder
from hotseat.library.discovery.templates import writes_calls
from hotseat.library.importing import import_model


def found(folder):
    return look_at_folder(Spot(name="m", place="folder", source=folder), folder)


def has_tools(folder):
    return found(folder).record.template.tools


@pytest.mark.parametrize(
    "calls", ["", "llama", "mistral", "json_tools", "qwen3_coder", "glm47", "harmony", "phi"]
)
def test_list_tells_tools_as_registering_does(calls, tmp_path):
    folder = Architecture(kind="llama", models="", calls=calls).make(tmp_path / "m")
    record = import_model(folder, tmp_path / "home", "m", lambda *_: None)
    assert has_tools(folder) == (record.template.tools and bool(record.template.tool_parser))
    assert has_tools(folder) == bool(calls)


@pytest.mark.parametrize("place", ["config", "list", "jinja", "named", "table"])
def test_template_is_looked_at_wherever_it_lies(place, tmp_path):
    folder = make_tiny(tmp_path / "m", "llama", template="none")
    assert not has_tools(folder)
    if place == "jinja":
        (folder / "chat_template.jinja").write_text(AGENT)
    elif place == "named":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(AGENT)
    elif place == "table":
        edit_json(folder / "chat_template.json", chat_template=AGENT)
    else:
        named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": AGENT}]
        edit_json(
            folder / "tokenizer_config.json", chat_template=named if place == "list" else AGENT
        )
    assert has_tools(folder)


def test_marks_of_calls_in_a_template_that_shows_no_tools_are_no_tools(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama", template="none")
    edit_json(folder / "tokenizer_config.json", chat_template="<tool_call></tool_call>" + CHATML)
    assert not has_tools(folder)


def test_template_that_cannot_be_read_keeps_no_model_from_the_list(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama", template="none")
    (folder / "chat_template.json").write_text("{")
    assert found(folder).record.template.tools is False


@pytest.mark.parametrize(
    "calls", sorted(call_templates.CALLS.keys() - {"pythonic", "phi", "granite"})
)
def test_every_format_that_templates_show_is_known_by_its_marks(calls):
    template = call_templates.template_of(calls)
    marks = "<|start|><|channel|><|message|>" if calls == "harmony" else ""
    assert writes_calls(template + marks + ("<|python_tag|>" if calls == "llama" else ""))
    assert not writes_calls(CHATML)
