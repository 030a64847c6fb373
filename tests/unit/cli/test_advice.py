"""Which model suits a purpose: what it has room for, what was measured, what it lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import model_record

from hotseat.cli.home.advising import Choice, advise, first_prompt, tools_of
from hotseat.cli.views.advice import render_advice
from hotseat.protocol.model import TemplateProbe
from hotseat.supervisor.scheduling.learned_costs import Costs, ModelCosts

B = 1_000_000_000
CALLS = TemplateProbe(mode="exact", tools=True, tool_parser="json_tools")


def choice(name="m", size=8, *, context=65_536, template=CALLS, registered=True, **options):
    record = model_record(name, parameters=int(size * B), template=template, **options)
    return Choice(record=record, context_tokens=context, is_registered=registered)


def costs(**rates):
    return Costs(
        models={
            name: ModelCosts(prefill_tokens_per_s=rate, swap_s=swap)
            for name, (rate, swap) in rates.items()
        }
    )


@pytest.mark.parametrize(
    ("purpose", "options", "lacks"),
    [
        ("coding-agent", {}, ()),
        ("coding-agent", {"template": TemplateProbe(mode="exact")}, ("tools",)),
        (
            "coding-agent",
            {"template": TemplateProbe(mode="exact", tools=True)},
            ("tools",),
        ),
        ("coding-agent", {"context": 16_000}, ("context of 32,768 tokens",)),
        ("chat", {"context": 16_000, "template": TemplateProbe(mode="exact")}, ()),
        ("chat", {"context": 4096}, ("context of 8,192 tokens",)),
    ],
)
def test_purpose_says_what_a_model_lacks(purpose, options, lacks):
    (advice,) = advise(purpose, [choice(**options)], Costs())
    assert advice.lacks == lacks


def test_slow_first_prompt_is_a_lack_whether_measured_or_not():
    measured = costs(m=(100.0, 1.0))
    known, guessed = advise("chat", [choice(), choice("n", 9, registered=False)], measured)
    assert (known.name, known.first_prompt_s, known.basis) == ("n", 225.0, guess("m"))
    assert (guessed.first_prompt_s, guessed.basis) == (200.0, "measured")
    assert {one.lacks for one in (known, guessed)} == {("a first prompt within 180 s",)}


def guess(name):
    return f"estimated by size from what was measured of {name}"


@pytest.mark.parametrize(
    ("measured", "size", "experts", "seconds", "basis"),
    [
        ({}, 8, 0, None, ""),
        ({"small": (2000.0, None)}, 8, 0, 40.0, guess("small")),
        ({"small": (2000.0, None), "large": (100.0, None)}, 20, 0, 200.0 / 1.0, guess("large")),
        ({"large": (100.0, None)}, 8, 0, 80.0, guess("large")),
        (
            {"large": (100.0, None)},
            8,
            64,
            80.0,
            f"{guess('large')} at most, it has experts that rest",
        ),
        ({"stranger": (100.0, None)}, 8, 0, None, ""),
    ],
)
def test_first_prompt_is_estimated_from_the_measured_model_nearest_in_size(
    measured, size, experts, seconds, basis
):
    asked = choice("new", size, registered=False, experts=experts)
    others = [choice("small", 2), choice("large", 20)]
    assert first_prompt(asked, [asked, *others], costs(**measured)) == (seconds, basis)


def test_model_without_a_size_has_no_estimate():
    asked = choice("new", 0, registered=False)
    assert first_prompt(asked, [asked, choice("m")], costs(m=(50.0, 1.0))) == (None, "")


@pytest.mark.parametrize(
    ("template", "registered", "tells", "said"),
    [
        (CALLS, True, True, "yes"),
        (TemplateProbe(mode="raw", tools=True), True, True, "no"),
        (TemplateProbe(mode="raw", tools=True), False, True, "yes"),
        (TemplateProbe(mode="raw"), False, True, "no"),
        (TemplateProbe(mode="raw"), False, False, "unknown"),
    ],
)
def test_tools_are_told_as_far_as_they_are_known(template, registered, tells, said):
    record = model_record(template=template)
    asked = Choice(record=record, context_tokens=1, is_registered=registered, tells_tools=tells)
    assert tools_of(asked) == said


def test_swaps_are_those_beside_each_other_registered_model():
    models = [choice("a"), choice("b"), choice("new", 2, registered=False)]
    known = costs(a=(None, 2.0), b=(None, 4.0))
    by_name = {one.name: one for one in advise("chat", models, known)}
    told = {
        name: [(swap.model, swap.there_s, swap.back_s) for swap in one.swaps]
        for name, one in by_name.items()
    }
    assert told == {
        "a": [("b", 4.0, 2.0)],
        "b": [("a", 2.0, 4.0)],
        "new": [("a", 2.0, 3.0), ("b", 4.0, 3.0)],
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 8, 30]),
            st.sampled_from([4096, 20_000, 100_000]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.sampled_from(["coding-agent", "chat"]),
)
def test_nothing_that_lacks_less_stands_behind_and_none_is_lost(kinds, purpose):
    models = [
        choice(
            f"m{at}",
            size,
            context=context,
            template=CALLS if calls else TemplateProbe(mode="raw"),
            registered=registered,
        )
        for at, (size, context, calls, registered) in enumerate(kinds)
    ]
    advice = advise(purpose, models, costs(m0=(900.0, 1.0)))
    assert sorted(one.name for one in advice) == sorted(str(one.record.name) for one in models)
    keys = [(len(one.lacks), -one.parameters) for one in advice]
    assert keys == sorted(keys)
    assert advise(purpose, models[::-1], costs(m0=(900.0, 1.0))) == advice


def test_table_marks_estimates_and_says_what_they_are_made_of(capsys):
    models = [choice("known"), choice("new", 4, registered=False, context=9000)]
    render_advice("coding-agent", advise("coding-agent", models, costs(known=(400.0, 2.5))))
    out, err = capsys.readouterr()
    assert "50.0 s" in out and "~25.0 s" in out
    assert "context of 32,768 tokens" in out
    assert f"~ {guess('known')}" in err


def test_table_says_when_nothing_was_measured(capsys):
    render_advice("chat", advise("chat", [choice()], Costs()))
    assert "it takes one turn of any model" in capsys.readouterr().err


def test_nothing_that_fits_is_said_with_the_way_out(capsys):
    render_advice("chat", ())
    assert "hotseat pull REPO" in capsys.readouterr().out
