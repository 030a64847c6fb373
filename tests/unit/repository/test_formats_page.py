"""The table of docs/formats.md says what the readers of calls do with the samples."""

from pathlib import Path

import pytest
from tests.support.call_samples import ARGUMENTS, SAMPLES, parts_of, said

from hotseat.worker.text.calls.formats import FORMATS
from hotseat.worker.text.constraints import FORCIBLE

PAGE = Path(__file__).parents[3] / "docs/formats.md"
LOOK, REST = ("look", ARGUMENTS), ("rest", {})


def line_of(name):
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
    ]
    mark = FORMATS[name].start if name in FORMATS else "<|channel|>"
    cells = " | ".join("yes" if is_shown else "no" for is_shown in shown)
    escaped = mark.replace("|", "\\|")
    return f"| {name} | `{escaped}` | {cells} |"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_line_of_a_format_says_what_its_sample_shows(name):
    assert line_of(name) in PAGE.read_text().splitlines()


def test_page_lists_no_other_formats():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(SAMPLES) + 1
