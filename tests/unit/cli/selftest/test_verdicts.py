"""A verdict follows from the numbers alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.selftest.rules.results import BAD, merged, quantile
from hotseat.cli.selftest.rules.verdicts import RULES, judge
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.selftest import Absent, Fact, Figure, Measured, figure


def measured(facts=(), **figures):
    return Measured(
        figures=tuple(
            figure(name, *(value if isinstance(value, list) else [value]))
            for name, value in figures.items()
        ),
        facts=tuple(Fact(name=name, value=value) for name, value in facts),
    )


FOOTPRINT = {
    "touched_bytes": GIB,
    "own_before_bytes": 0,
    "own_held_bytes": GIB,
    "outside_before_bytes": 9 * MIB,
    "outside_held_bytes": GIB + 9 * MIB,
    "outside_after_bytes": 10 * MIB,
}
SLOTS = {"compared_calls": 20, "decode_differs_at": -1, "batch_differs_at": -1}
SPEED = {
    "mlx_lm_decode_tokens_per_s": [100, 90, 110],
    "engine_decode_tokens_per_s": [95, 96, 97],
    "mlx_lm_prefill_tokens_per_s": 1000,
    "engine_prefill_tokens_per_s": 900,
}
MEMORY = {"total_bytes": 24 * GIB, "available_bytes": 9 * GIB, "psutil_available_bytes": 9 * GIB}
PROCESSES = {"hello_s": 2, "kill_noticed_ms": [3, 40], "orphan_gone_s": 0.3}
LIMITS = {"peak_bytes": 100, "forecast_bytes": 100}
NEVER = [("earlier_run", "never ended")]
CASES = [
    ("last run", {"facts": [("earlier_run", "none")]}, "ok"),
    ("last run", {"facts": [("earlier_run", "ended")]}, "ok"),
    ("last run", {"facts": NEVER, "booted_since": 0, "panic_reports_since": 0}, "unknown"),
    ("last run", {"facts": NEVER, "booted_since": 1, "panic_reports_since": 0}, "wrong"),
    ("last run", {"facts": NEVER, "booted_since": 1, "panic_reports_since": 2}, "wrong"),
    ("machine", {"facts": [("system", "Darwin"), ("python_machine", "arm64")]}, "ok"),
    ("machine", {"facts": [("system", "Darwin"), ("python_machine", "x86_64")]}, "wrong"),
    ("machine", {"facts": [("system", "Linux"), ("python_machine", "x86_64")]}, "ok"),
    ("machine", {"facts": [("protected_folder", "yes")]}, "wrong"),
    ("models", {"weights_bytes": [2, 2]}, "ok"),
    ("models", {"weights_bytes": [2, 0]}, "wrong"),
    ("memory", MEMORY, "ok"),
    ("memory", MEMORY | {"available_bytes": 25 * GIB}, "wrong"),
    ("memory", MEMORY | {"available_bytes": 0}, "wrong"),
    ("memory", MEMORY | {"psutil_available_bytes": 15 * GIB}, "unknown"),
    ("memory", MEMORY | {"psutil_available_bytes": 15 * GIB, "wired_bytes": GIB}, "ok"),
    ("footprint", FOOTPRINT, "ok"),
    ("footprint", FOOTPRINT | {"outside_held_bytes": 10 * MIB}, "wrong"),
    ("footprint", FOOTPRINT | {"own_held_bytes": 0.94 * GIB}, "wrong"),
    ("footprint", FOOTPRINT | {"own_held_bytes": 0.96 * GIB}, "ok"),
    ("footprint", FOOTPRINT | {"outside_after_bytes": GIB}, "unknown"),
    ("syncs", {"fsync_file_ms": [1, 2, 90]}, "ok"),
    ("syncs", {"fsync_file_ms": [1, 50, 90]}, "slow"),
    ("syncs", {"fsync_file_ms": 0.05, "full_fsync_file_ms": [19, 20]}, "ok"),
    ("syncs", {"fsync_file_ms": 0.05, "full_fsync_file_ms": [75, 80]}, "slow"),
    ("store", {"equal_share": 1, "write_mib_per_s": 900, "read_mib_per_s": 900}, "ok"),
    ("store", {"equal_share": 1, "write_mib_per_s": 90, "read_mib_per_s": 900}, "slow"),
    ("store", {"equal_share": 0, "write_mib_per_s": 90, "read_mib_per_s": 900}, "wrong"),
    ("commits", {"commit_ms": [5, 6, 7]}, "ok"),
    ("commits", {"commit_ms": [5, 100, 101]}, "slow"),
    ("round trips", {"round_trip_ms": [1] * 200}, "ok"),
    ("round trips", {"round_trip_ms": [1] * 97 + [80] * 3}, "slow"),
    ("round trips", {"round_trip_ms": [9] * 100}, "slow"),
    ("kernels", {"first_token_ms": [90], "first_chunk_ms": [200]}, "ok"),
    ("kernels", {"first_token_ms": [90], "first_chunk_ms": [4000]}, "slow"),
    ("slots", SLOTS, "ok"),
    ("slots", SLOTS | {"batch_differs_at": 3}, "wrong"),
    ("slots", SLOTS | {"compared_calls": 0}, "wrong"),
    ("speed", SPEED, "ok"),
    ("speed", SPEED | {"engine_decode_tokens_per_s": 60}, "slow"),
    ("speed", SPEED | {"engine_prefill_tokens_per_s": 600}, "slow"),
    (
        "rest",
        {"first_token_after_0_s_rest_ms": 50, "first_token_after_120_s_rest_ms": 199},
        "ok",
    ),
    (
        "rest",
        {
            "first_token_after_5_s_rest_ms": 60,
            "first_token_after_0_s_rest_ms": 50,
            "first_token_after_30_s_rest_ms": 320,
        },
        "slow",
    ),
    ("memory limits", LIMITS, "ok"),
    ("memory limits", LIMITS | {"peak_bytes": 101}, "wrong"),
    ("exactness", {"again_differs_at": -1, "beside_3_unequal_at": 7}, "ok"),
    ("exactness", {"again_differs_at": -1, "swapped_differs_at": 0}, "wrong"),
    ("swaps", {"failed_swaps": 0, "own_s": [0.2, 0.4]}, "ok"),
    ("swaps", {"failed_swaps": 0, "own_s": [4, 5]}, "slow"),
    ("swaps", {"failed_swaps": 1, "own_s": [0.2]}, "wrong"),
    ("swaps", {"failed_swaps": 0, "own_s": 1, "wired_not_back_bytes": [0, GIB]}, "unknown"),
    ("swaps", {"failed_swaps": 0, "own_s": 1, "wired_not_back_bytes": [0, MIB]}, "ok"),
    ("kills", {"resumed_share": [1, 1], "resumed_differs_at": [-1, -1]}, "ok"),
    ("kills", {"resumed_share": [1, 0], "resumed_differs_at": [-1, -1]}, "wrong"),
    ("kills", {"resumed_share": [1, 1], "resumed_differs_at": [-1, 3]}, "wrong"),
    ("processes", PROCESSES, "ok"),
    ("processes", PROCESSES | {"kill_noticed_ms": [3, 400]}, "slow"),
    ("processes", PROCESSES | {"orphan_gone_s": 5}, "slow"),
    ("processes", PROCESSES | {"orphan_gone_s": 30, "hello_s": 99}, "wrong"),
    (
        "gpu error",
        {"finished_share": 1, "replaced_share": 1, "after_error_differs_at": -1},
        "ok",
    ),
    (
        "gpu error",
        {"finished_share": 1, "replaced_share": 0, "after_error_differs_at": -1},
        "wrong",
    ),
    (
        "gpu error",
        {"finished_share": 0, "replaced_share": 1, "after_error_differs_at": -1},
        "wrong",
    ),
    (
        "gpu error",
        {"finished_share": 1, "replaced_share": 1, "after_error_differs_at": 9},
        "wrong",
    ),
    ("churn", {"tokens": 9, "failed_requests": 0}, "ok"),
    ("churn", {"tokens": 0, "failed_requests": 0}, "wrong"),
    ("churn", {"tokens": 9, "failed_requests": 1}, "wrong"),
    ("crash reports", {"panic_reports_since_begin": 0, "panic_reports_week_before": 4}, "ok"),
    ("crash reports", {"panic_reports_since_begin": 1, "crash_reports_since_begin": 0}, "wrong"),
]


@pytest.mark.parametrize(("entry", "numbers", "verdict"), CASES)
def test_numbers_give_the_verdict(entry, numbers, verdict):
    judged = judge(entry, measured(**numbers))
    assert judged.verdict == verdict
    assert bool(judged.reason) == (verdict != "ok")


def test_every_rule_has_a_case_that_is_fine_and_most_one_that_is_not():
    fine = {entry for entry, _, verdict in CASES if verdict == "ok"}
    other = {entry for entry, _, verdict in CASES if verdict != "ok"}
    assert fine == other == set(RULES)


@pytest.mark.parametrize("entry", sorted(set(RULES) - {"machine", "last run"}))
def test_number_that_is_missing_makes_it_unknown(entry):
    judged = judge(entry, measured(something_else=1.0))
    assert judged.verdict == "unknown"
    assert judged.reason.endswith("was not measured")


def test_entry_that_has_nothing_here_says_which_reason():
    absent = Measured(absent=(Absent(name="panics", reason="macOS alone keeps them"),))
    assert judge("crash reports", absent).verdict == "not on this system"
    assert judge("crash reports", absent).reason == "macOS alone keeps them"
    assert judge("gpu error", Measured(skipped="no such point")).verdict == "skipped"
    assert judge("speed", Measured()).verdict == "unknown"


samples = st.lists(st.floats(-1e12, 1e12), max_size=5).map(tuple)
names = st.sampled_from(sorted({name for _, figures, _ in CASES for name in figures} - {"facts"}))
anything = st.builds(
    Measured,
    figures=st.lists(st.builds(Figure, name=names, samples=samples), max_size=6).map(tuple),
    facts=st.lists(
        st.builds(Fact, name=st.sampled_from(["earlier_run", "system"]), value=st.text()),
        max_size=2,
    ).map(tuple),
)


@given(st.sampled_from(sorted(RULES)), anything)
def test_whatever_was_measured_there_is_a_verdict_with_a_reason(entry, found):
    judged = judge(entry, found)
    assert judged.verdict in {"ok", "slow", "wrong", "unknown", "skipped", "not on this system"}
    assert bool(judged.reason) == (judged.verdict != "ok")


@given(st.lists(anything, max_size=4))
def test_merged_parts_keep_every_sample_in_order(parts):
    found = {figure.name: figure.samples for figure in merged(tuple(parts)).figures}
    wanted = {}
    for part in parts:
        for one in part.figures:
            wanted[one.name] = wanted.get(one.name, ()) + one.samples
    assert found == wanted


@given(st.lists(st.floats(-1e9, 1e9), min_size=1).map(tuple), st.floats(0, 1))
def test_quantile_is_a_sample_with_about_that_share_below(values, share):
    found = quantile(values, share)
    assert found in values
    assert sum(value < found for value in values) <= share * len(values)


def test_what_counts_as_bad_is_what_the_exit_code_tells():
    assert {"wrong", "failed", "timed out"} == BAD
