"""Chat templates wherever a folder keeps them, and every end of a turn that it states."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm import tool_parsers
from tests.support.models.kinds.architecture import Architecture
from tests.support.models.reshaped import edit_json
from tests.support.models.tiny_models import AGENT, CHATML, make_tiny

from hotseat.library.importing import import_model
from hotseat.library.turn_ends import template_end
from hotseat.protocol.errors import HotseatError
from hotseat.worker.model.loading import load_kit
from hotseat.worker.text.calls.formats import FORMATS, HARMONY, format_name
from hotseat.worker.text.tokenizer import open_tokenizer

ENDOFTEXT, IM_START, IM_END, THINK = 0, 1, 2, 3
CLOSED_BY_THINK = CHATML.replace("<|im_end|>", "<think>")
OTHER_END = {"eos_token": "<|endoftext|>"}
NAMED = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": AGENT}]

OF_THE_LIBRARY = {file.stem for file in Path(tool_parsers.__file__).parent.glob("*.py")}
"""Formats that mlx-lm has a reader for."""


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def registered(folder: Path):
    return import_model(folder, folder.parent / "home", "m", quiet)


@pytest.fixture
def folder(tmp_path):
    """A model without a template, and without an end of turn."""
    made = make_tiny(tmp_path / "m", "llama", template="none")
    edit_json(made / "config.json", "eos_token_id")
    edit_json(made / "tokenizer_config.json", "eos_token")
    return made


def keep(folder: Path, place: str, template) -> None:
    """Puts a template where a folder may have it."""
    if place == "jinja":
        (folder / "chat_template.jinja").write_text(template)
    elif place == "table":
        edit_json(folder / "chat_template.json", chat_template=template)
    elif place == "named":
        (folder / "additional_chat_templates").mkdir()
        (folder / "chat_template.jinja").write_text(CHATML)
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(template)
    else:
        edit_json(folder / "tokenizer_config.json", chat_template=template)


@pytest.mark.parametrize("place", ["config", "jinja", "table"])
def test_template_is_found_wherever_the_folder_keeps_it(folder, place):
    keep(folder, place, CHATML)
    record = registered(folder)
    assert record.template.mode == "exact"
    assert open_tokenizer(folder, (), "").chat_template == CHATML


def test_template_of_the_tokenizer_goes_before_that_of_a_processor(folder):
    keep(folder, "config", CHATML)
    keep(folder, "table", AGENT)
    assert open_tokenizer(folder, ()).chat_template == CHATML


@pytest.mark.parametrize("place", ["config", "table"])
def test_list_of_named_templates_takes_tools_by_the_one_for_tools(folder, place):
    keep(folder, place, NAMED)
    probe = registered(folder).template
    assert (probe.mode, probe.tools, probe.tool_parser) == ("exact", True, "json_tools")
    assert probe.forces_calls


def test_folder_of_named_templates_takes_tools_and_is_watched(folder):
    keep(folder, "named", AGENT)
    record = registered(folder)
    assert (record.template.tools, record.template.tool_parser) == (True, "json_tools")
    assert "additional_chat_templates/tool_use.jinja" in {file.name for file in record.files}


def test_tag_follows_the_template_wherever_it_is(folder):
    keep(folder, "table", CHATML)
    first = registered(folder)
    keep(folder, "table", AGENT)
    second = registered(folder)
    assert first.tag_parts.template != second.tag_parts.template


def test_end_is_taken_from_every_place_that_states_one(folder):
    edit_json(folder / "config.json", eos_token_id=[40, 41], text_config={"eos_token_id": 42})
    edit_json(folder / "generation_config.json", eos_token_id=[43, 44])
    edit_json(folder / "tokenizer_config.json", **OTHER_END)
    keep(folder, "jinja", CHATML)
    assert registered(folder).eos_token_ids == (ENDOFTEXT, IM_END, 40, 41, 42, 43, 44)


def test_end_with_the_id_zero_counts_in_a_generation_config(folder):
    edit_json(folder / "generation_config.json", eos_token_id=0)
    assert registered(folder).eos_token_ids == (ENDOFTEXT,)


@settings(max_examples=15, deadline=None)
@given(
    places=st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(st.integers(5, 400), st.lists(st.integers(5, 400), max_size=3))
            for name in ("config.json", "generation_config.json")
        },
    )
)
def test_ends_are_all_that_is_stated_and_nothing_else(tmp_path_factory, places):
    folder = make_tiny(tmp_path_factory.mktemp("ends") / "m", "llama", template="none")
    edit_json(folder / "config.json", "eos_token_id")
    expected = {IM_END}
    for name, value in places.items():
        edit_json(folder / name, eos_token_id=value)
        expected |= {value} if isinstance(value, int) else set(value)
    assert set(registered(folder).eos_token_ids) == expected


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, IM_END),
        (CLOSED_BY_THINK, THINK),
        # Phi: the end of the turn, then that of the text.
        (
            CHATML.replace(
                "{% if add", "{% if not add_generation_prompt %}<|endoftext|>{% endif %}{% if add"
            ),
            IM_END,
        ),
        # gpt-oss: the last answer ends otherwise than those before it.
        (
            CHATML.replace(
                "}}<|im_end|>", "}}{{ '<|endoftext|>' if loop.last else '<|im_end|>' }}"
            ),
            ENDOFTEXT,
        ),
        # A mark with words behind it is a part of the turn.
        (CHATML.replace("}}<|im_end|>", "}}<|im_end|>message<think>"), None),
        # Nothing closes an answer but a line.
        (CHATML.replace("<|im_end|>", ""), None),
        # White space stands before the mark.
        (CHATML.replace("}}<|im_end|>", "}}\n<|im_end|>"), IM_END),
        ("{{ raise_exception('no') }}", None),
    ],
)
def test_template_tells_by_what_it_closes_an_answer(folder, template, end):
    keep(folder, "jinja", template)
    assert template_end(open_tokenizer(folder, ())) == end


def test_generation_config_that_cannot_be_read_is_named(folder):
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(HotseatError, match="generation_config") as caught:
        registered(folder)
    assert caught.value.code == "model_unavailable"


def test_table_without_a_template_is_no_template(folder):
    (folder / "chat_template.json").write_text(json.dumps({"other": 1}))
    assert registered(folder).template.mode == "raw"


@pytest.mark.parametrize("calls", sorted({*FORMATS, HARMONY} - OF_THE_LIBRARY))
def test_model_of_a_format_without_a_reader_in_mlx_lm_is_opened_again_as_it_was_registered(
    calls, tmp_path
):
    """A name of ours for a format is no name of mlx-lm's, which would look for its code."""
    made = Architecture(kind="llama", models="", calls=calls).make(tmp_path / "m")
    record = registered(made)
    kit = load_kit(record)
    assert record.template.tool_parser == format_name(kit.tokenizer) == calls
