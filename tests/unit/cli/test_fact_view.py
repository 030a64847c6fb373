"""Facts of events and log lines, for a person."""

import pytest

from hotseat.cli.views.fact import facts_text


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"phase": "ready", "model": None, "reason": "", "epoch": 2}, "phase=ready epoch=2"),
        ({"total_s": 0.10000000001}, "total_s=0.1"),
        ({"is_new": True}, "is_new=true"),
        ({"phases": {"drain_s": 0.0, "load_s": 1.25}}, "phases=(drain_s=0 load_s=1.25)"),
        ({"undone": [], "pids": [1, 2]}, "undone=[] pids=[1, 2]"),
        (
            {"cause": {"client": "cli[7]", "request_id": "ab", "model_asked": "m"}},
            "cause=cli[7]/ab",
        ),
    ],
)
def test_facts_are_short_and_have_no_braces(facts, text):
    assert facts_text(facts) == text
