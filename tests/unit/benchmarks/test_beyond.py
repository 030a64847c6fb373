"""Models larger than memory against the OS: what runs come to, and that all see the same tokens."""

import sys

import msgspec
import numpy as np
import pytest
from benchmarks.measure import MIB
from benchmarks.proof import beyond
from benchmarks.proof.beyond_figures import (
    KILLED,
    WAYS,
    Outcome,
    equal_share,
    over_plan,
    row_of,
    verdicts,
    with_whole,
)
from benchmarks.proof.beyond_steps import FIRST_TOKEN, Steps, topical

TASK = beyond.FAMILIES["experts"]
STEPS = Steps(
    step_s=(0.1, 0.1),
    digests=("a", "b"),
    load_s=1.0,
    prompt_s=1.0,
    peak_bytes=100 * MIB,
    plan_bytes=100 * MIB,
    read_bytes=80e6,
    rate=1e9,
    hits=0.5,
    words="",
)


def ran(family, arm, step_s, number=0, **changed):
    steps = msgspec.structs.replace(STEPS, step_s=(step_s,) * 2, **changed)
    return Outcome(family=family, arm=arm, number=number, words="completed", steps=steps)


def killed(family, arm="plain, no swap"):
    return Outcome(family=family, arm=arm, number=0, words=f"{KILLED}: no memory", steps=None)


def found(family, outcomes):
    return {verdict.figure: round(verdict.value, 6) for verdict in verdicts(family, outcomes)}


def test_figures_of_a_dense_model_compare_arms_of_the_same_turn():
    outcomes = [
        *(ran("dense", "streamed", 0.1, number) for number in range(3)),
        *(ran("dense", "plain, swap", 0.5 + number / 10, number) for number in range(3)),
        ran("dense", "whole, 4 rows", 0.4),
        ran("dense", "streamed, 4 rows", 0.5, peak_bytes=148 * MIB),
        killed("dense"),
    ]
    figures = found("dense", outcomes)
    assert figures["dense over swap, times as fast"] == 6
    assert figures["dense, share of the device's bound"] == 0.8
    assert figures["dense, 4 rows over whole"] == 1.25
    assert figures["dense: peak above plan, of what is allowed"] == 1.5
    assert figures["dense: completes without swap"] == 1
    assert figures["dense: plain killed without swap"] == 1


def test_law_of_experts_is_the_whole_models_time_and_that_of_what_was_missed():
    outcomes = [
        ran("experts", "whole", 0.02),
        ran("experts", "streamed", 0.125),
        ran("experts", "all in slots", 0.023),
        ran("experts", "plain, no swap", 1.0),
    ]
    figures = found("experts", outcomes)
    assert figures["experts' law over measured"] == 0.8
    assert figures["all experts in slots over whole"] == 1.15
    assert figures["experts: plain killed without swap"] == 0
    assert "experts over swap, times as fast" not in figures


def test_mapped_weights_are_compared_by_each_read_ahead():
    outcomes = [
        *(ran("experts", "streamed", 0.1, number) for number in range(2)),
        *(ran("experts", "plain, mmap", 0.6, number) for number in range(2)),
        ran("experts", "plain, mmap, best read-ahead", 0.2, 1, plan_bytes=0),
    ]
    figures = found("experts", outcomes)
    assert figures["experts over mmap, times as fast"] == 2
    assert figures["experts over mmap with the machine's read-ahead, times as fast"] == 6


def test_chosen_arms_come_with_the_whole_models_of_as_many_rows():
    assert with_whole("dense", ["plain, mmap", "streamed"]) == ["whole", "streamed", "plain, mmap"]
    assert with_whole("dense", ["streamed, 4 rows"]) == ["whole, 4 rows", "streamed, 4 rows"]
    assert with_whole("context", ["plain, mmap"]) == []
    for family, ways in WAYS.items():
        assert with_whole(family, ways) == list(ways)


def test_logits_are_compared_with_the_whole_models_of_as_many_rows():
    whole, streamed = ran("dense", "whole", 1.0), ran("dense", "streamed", 1.0)
    of_four = ran("dense", "streamed, 4 rows", 1.0, digests=("c", "d"))
    four = ran("dense", "whole, 4 rows", 1.0, digests=("c", "d"))
    assert equal_share("dense", [whole, streamed, four, of_four]) == 1
    other = ran("dense", "streamed", 1.0, digests=("a", "c"))
    assert equal_share("dense", [whole, streamed, other, killed("dense")]) == pytest.approx(2 / 3)
    assert equal_share("dense", [streamed, of_four]) == 0
    assert equal_share("dense", []) == 0


def test_peak_may_be_above_its_plan_by_the_larger_of_a_share_and_a_sum():
    small = msgspec.structs.replace(STEPS, peak_bytes=132 * MIB)
    assert over_plan(small) == 1
    large = msgspec.structs.replace(STEPS, plan_bytes=10_000 * MIB, peak_bytes=10_100 * MIB)
    assert over_plan(large) == 0.5


def test_row_of_an_arm_that_never_completed_says_so():
    assert row_of([killed("dense")]) == ("0 of 1", *("-",) * 8)
    assert row_of([ran("dense", "streamed", 0.1)])[:2] == ("1 of 1", "100 ms")


def test_all_arms_compute_the_same_tokens_and_come_back_to_them():
    tokens = topical(msgspec.structs.replace(TASK, rows=4), 512)
    assert tokens.shape == (4, TASK.prompt + TASK.warm + TASK.cycles * (1 + TASK.counted))
    assert tokens.min() >= FIRST_TOKEN
    streamed = msgspec.structs.replace(TASK, rows=4, kind="streamed", limit_bytes=1)
    assert np.array_equal(tokens, topical(streamed, 512))
    assert len(np.unique(tokens[0, :32])) < 32


def test_every_arm_is_compared_with_a_whole_model_of_as_many_rows():
    for ways in WAYS.values():
        whole = {way.rows for way in ways.values() if way.kind == "whole" and not way.is_limited}
        assert {way.rows for way in ways.values()} == whole


def test_experiment_is_refused_with_the_reason_where_there_are_no_groups(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert beyond.main(["--quick", "--cache", str(tmp_path)]) == 2
    assert "no other system can do it" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
