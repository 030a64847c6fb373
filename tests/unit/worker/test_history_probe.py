"""What the probe learns of templates with the habits of six families."""

import pytest
from msgspec import structs
from tests.support.models import chat_templates

from hotseat.protocol.messages import Message, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.template_probe import probe_template

CLOCK = 1_700_000_000.0
ALTERNATES = {"several_system", "later_system", "user_turns", "assistant_turns"}
CALLS = (
    ToolCall(id="tide00001", name="tide", arguments='{"place": "Brest"}'),
    ToolCall(id="wind00002", name="wind", arguments='{"place": "Calais"}'),
)


def user(text):
    return Message(role="user", content=text)


@pytest.mark.parametrize(
    ("family", "mode", "arguments", "null", "folds"),
    [
        ("hermes", "exact", "object", False, set()),
        ("llama", "exact", "object", False, {"parallel_calls", "text_with_calls"}),
        (
            "mistral",
            "exact",
            "object",
            False,
            {*ALTERNATES, "call_ids", "missing_results", "user_after_results"},
        ),
        ("gemma", "exact", "object", False, {*ALTERNATES, "system", "calls", "results"}),
        ("deepseek", "exact", "text", True, {"later_system"}),
        (
            "harmony",
            "render",
            "object",
            False,
            {"several_system", "later_system", "parallel_calls", "text_with_calls"},
        ),
    ],
)
def test_probe_learns_what_a_family_takes(tmp_path, family, mode, arguments, null, folds):
    probe = probe_template(chat_templates.load_family(tmp_path, family))
    assert (probe.mode, probe.call_arguments, probe.null_content) == (mode, arguments, null)
    assert set(probe.folds) == folds


@pytest.mark.parametrize("family", ["hermes", "llama", "mistral"])
def test_results_can_be_appended_in_families_with_tools(tmp_path, family):
    assert probe_template(chat_templates.load_family(tmp_path, family)).append_tools


@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)])
def test_names_are_looked_up_by_id_appended_and_rendered_alike(tmp_path, arrival):
    tokenizer = chat_templates.load_tokenizer(tmp_path, chat_templates.NAMES_BY_ID)
    renderer = Renderer(tokenizer, probe_template(tokenizer))
    results = [
        Message(role="tool", content="4 m", tool_call_id="tide00001"),
        Message(role="tool", content="7 kn", tool_call_id="wind00002"),
    ]
    asked = [user("How is the sea?"), Message(role="assistant", tool_calls=CALLS)]
    arrived = [results[at] for at in arrival]
    context = renderer.render(asked, CLOCK, generation_prompt=False)[:-1]
    added = renderer.append(context, arrived, CLOCK, calls=CALLS)
    whole = renderer.render([*asked, *arrived], CLOCK)
    assert whole[-len(added) :] == added
    assert "tide: 4 m<|im_end|>\n<|im_start|>tool\nwind: 7 kn" in tokenizer.decode(added)


def test_later_system_text_never_moves_the_head_of_the_prompt(tmp_path):
    tokenizer = chat_templates.load_family(tmp_path, "deepseek")
    renderer = Renderer(tokenizer, probe_template(tokenizer))
    talk = [
        Message(role="system", content="Be brief."),
        user("Hi"),
        Message(role="assistant", content="Ho"),
    ]
    more = [Message(role="system", content="Be long."), user("Go on")]
    before = renderer.render(talk, CLOCK, generation_prompt=False)
    after = renderer.render([*talk, *more], CLOCK)
    assert after[: len(before)] == before
    assert "<system-reminder>\nBe long.\n</system-reminder>\n\nGo on" in tokenizer.decode(after)


def test_record_of_an_older_probe_renders_as_before(tmp_path):
    tokenizer = chat_templates.load_family(tmp_path, "hermes")
    talk = [
        Message(role="system", content="Be brief."),
        user("Hi"),
        Message(role="assistant", content="Ho"),
        Message(role="system", content="Be long."),
        user("Go on"),
    ]
    old, new = TemplateProbe(mode="exact"), probe_template(tokenizer)
    assert new == structs.replace(new, folds=(), call_arguments="object", null_content=False)
    assert Renderer(tokenizer, old).render(talk, CLOCK) == Renderer(tokenizer, new).render(
        talk, CLOCK
    )
