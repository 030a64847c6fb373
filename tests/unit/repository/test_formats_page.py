"""The table of docs/formats.md says what the readers of calls do with the samples."""

import json
from pathlib import Path

import pytest
from tests.support.call_samples import ARGUMENTS, SAMPLES, TOOLS, parts_of, said
from tests.support.models import call_templates, chat_templates

from hotseat.protocol.messages import Message, ToolCall
from hotseat.worker.text.calls.formats import FORMATS
from hotseat.worker.text.constraints import FORCIBLE
from hotseat.worker.text.history_probe import probe_history
from hotseat.worker.text.rendering import Renderer

PAGE = Path(__file__).parents[3] / "docs/formats.md"
LOOK, REST = ("look", ARGUMENTS), ("rest", {})
REPLY, END = "<|im_start|>assistant", "<|im_end|>"
CALLED = (
    Message(role="user", content="What is above?"),
    Message(
        role="assistant",
        tool_calls=(
            ToolCall(id="call_1", name="look", arguments=json.dumps(ARGUMENTS)),
            ToolCall(id="call_2", name="rest", arguments="{}"),
        ),
    ),
    Message(role="tool", content="Clouds.", tool_call_id="call_1"),
    Message(role="tool", content="Rested.", tool_call_id="call_2"),
    Message(role="assistant", content="Clouds are."),
)


def shown_in_history(folder, name):
    """Calls of a history as this format's reader finds them in the rendered conversation."""
    tokenizer = chat_templates.load_tokenizer(folder, call_templates.template_of(name))
    renderer = Renderer(tokenizer, probe_history(tokenizer, TOOLS, name))
    ids = renderer.render(CALLED, 0.0, tools=TOOLS, generation_prompt=False)
    replies = [text.split(END)[0] for text in tokenizer.decode(ids).split(REPLY)[1:-1]]
    return [part for text in replies for part in said(parts_of(name, text.lstrip("\n")))]


def line_of(folder, name):
    """A format as a row of the table; a cell is filled by what a sample shows."""
    sample = SAMPLES[name]
    before = f"<think>Hm.</think>I look. {sample.look}"
    if name == "harmony":
        before = (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
            f"<|message|>I look. <|end|><|start|>assistant{sample.look}"
        )
    if name == "llama":
        before = f"<think>Hm.</think>I look. <|python_tag|>{sample.look}"
    shown = [
        said(parts_of(name, sample.look)) == [LOOK],
        said(parts_of(name, sample.rest)) == [REST],
        said(parts_of(name, sample.both)) == [LOOK, REST],
        said(parts_of(name, before)) == [("reasoning", "Hm."), ("text", "I look. "), LOOK],
        name in FORCIBLE,
        shown_in_history(folder, name) == [LOOK, REST],
    ]
    mark = FORMATS[name].start if name in FORMATS else "<|channel|>"
    cells = " | ".join("yes" if is_shown else "no" for is_shown in shown)
    escaped = mark.replace("|", "\\|")
    return f"| {name} | `{escaped}` | {cells} |"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_line_of_a_format_says_what_its_sample_shows(tmp_path, name):
    assert line_of(tmp_path, name) in PAGE.read_text().splitlines()


def test_page_lists_no_other_formats():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(SAMPLES) + 1
