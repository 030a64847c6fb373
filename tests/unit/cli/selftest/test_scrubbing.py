"""Nothing in the file tells who somebody is or where things lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.selftest.rules.results import Result
from hotseat.cli.selftest.rules.scrubbing import scrubbed, scrubbed_result
from hotseat.protocol.selftest import Absent, Fact


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no such file: '/Users/anna/My Models/x.gguf'", "no such file: '[path]'"),
        ("see ~/Library/Logs", "see [path]"),
        ("worker of Anna-s-Mac ended", "worker of [name] ended"),
        ("ANNA left", "[name] left"),
        ("savannah annas", "savannah annas"),
        ("code 3: at models/anna.json", "code 3: at [path]"),
        ("1.5 GiB of 24", "1.5 GiB of 24"),
    ],
)
def test_names_and_paths_are_taken_out_of_a_text(text, told):
    assert scrubbed(text, {"anna", "Anna-s-Mac"}) == told


words = st.text(st.sampled_from("ab-. /~:'\"(\n"), max_size=40)


@given(words, st.sets(st.text(st.sampled_from("ab-"), min_size=1, max_size=4), max_size=3))
def test_no_slash_and_no_name_survives(text, names):
    found = scrubbed(text, names)
    assert "/" not in found
    tokens = "".join(c if c.isalnum() else " " for c in found).split()
    plain = {name for name in names if name.isalnum()}
    assert not plain & set(tokens)


def test_all_that_a_process_wrote_is_scrubbed_and_nothing_else():
    result = Result(
        name="anna",
        measures="anna",
        expected="anna",
        verdict="failed",
        reason="anna died",
        facts=(Fact(name="chip", value="anna's"),),
        absent=(Absent(name="x", reason="of anna"),),
    )
    found = scrubbed_result(result, {"anna"})
    assert (found.reason, found.facts[0].value, found.absent[0].reason) == (
        "[name] died",
        "[name]'s",
        "of [name]",
    )
    assert (found.name, found.measures, found.expected) == ("anna", "anna", "anna")
