"""The experiment of control against chaos: what is still to do, what is safe, what figures say."""

import itertools
import subprocess
import sys

import msgspec
import pytest
from benchmarks.measure import GIB, MIB
from benchmarks.proof import chaos, degrade
from benchmarks.proof.arms import WAYS, without_others
from benchmarks.proof.course import quantile
from benchmarks.proof.ground import check_safe, limit_bytes, usable_place, wanted_swap_bytes
from benchmarks.proof.groups import PAGE, Group, RefusedError, find_place
from benchmarks.proof.results import (
    Beside,
    Planned,
    Run,
    Sums,
    TurnFigures,
    begun_in_time,
    planned,
    read_runs,
)
from benchmarks.proof.swap_file import size_for
from benchmarks.proof.tables import rows_of, verdicts
from benchmarks.raw_lines import append_line
from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.demo.control_group import Place


def run(
    arm, ratio=1.25, number=0, *, firsts=(1.0, 2.0), outcome="completed", tokens=(1, 2), **sums
):
    """A run whose turns began after `firsts`."""
    turns = tuple(
        TurnFigures(
            round=place,
            model="m",
            prompt=10,
            restored=0,
            first_s=first,
            rate=5.0,
            swap_in=0,
            major_faults=0,
            tokens=tokens,
        )
        for place, first in enumerate(firsts)
    )
    return Run(
        arm=arm,
        ratio=ratio,
        number=number,
        size_mb=500,
        rounds=2,
        outcome=outcome,
        limit_bytes=None,
        swap_bytes=0,
        largest_bytes=1,
        turns=turns,
        wall_s=1.0,
        start_s=0.5,
        sums=Sums(**sums),
        peak_bytes=1,
        stored_bytes=1,
        beside=Beside(),
    )


@given(
    st.lists(st.sampled_from(list(WAYS)), min_size=1, max_size=5, unique=True),
    st.lists(st.sampled_from([2.0, 1.25, 0.8]), min_size=1, unique=True),
    st.integers(1, 4),
    st.integers(0, 60),
)
def test_resuming_makes_every_run_once_and_in_the_same_order(arms, ratios, n, cut):
    everything = planned(arms, ratios, n, [])
    done = [run(one.arm, one.ratio, one.number) for one in everything[:cut]]
    assert planned(arms, ratios, n, done) == everything[cut:]
    constrained = [one for one in everything if one.ratio is not None]
    assert len(constrained) == len(arms) * len(ratios) * n
    assert len(set(map(msgspec.json.encode, everything))) == len(everything)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.integers(0, 600))
def test_quick_run_never_begins_what_would_end_too_late(lengths, budget):
    todo = planned(["kept"], [1.25], len(lengths), [])[: len(lengths)]
    passed = [0]
    for _, took in zip(begun_in_time(todo, budget, lambda: sum(passed)), lengths, strict=False):
        assert sum(passed) + max(passed) <= budget
        passed.append(took)
    if len(passed) <= len(lengths):
        assert sum(passed) + max(passed) > budget


def test_references_come_first_and_arms_begin_in_turns():
    todo = planned(["kept", "one", "hotseat"], [1.25], 2, [])
    assert [one.arm for one in todo[:2]] == ["kept", "hotseat"]
    assert [one.ratio for one in todo[:2]] == [None, None]
    assert [one.arm for one in todo[2:]] == ["kept", "one", "hotseat", "one", "hotseat", "kept"]
    assert planned(["one"], [1.25], 1, [])[0] == Planned(arm="kept", ratio=None, number=0)
    free = [one.number for one in planned(["one"], [1.25], 10, []) if one.ratio is None]
    assert free == [0, 3, 6, 9]


def test_runs_are_read_back_without_a_line_that_was_cut(tmp_path):
    path = tmp_path / "results" / "runs.jsonl"
    append_line(path, run("kept"))
    with path.open("ab") as file:
        file.write(b'{"arm":"ho')
    append_line(path, run("hotseat"))
    assert [one.arm for one in read_runs(path, 500, 2)] == ["kept", "hotseat"]
    assert read_runs(path, 500, 4) == []
    assert read_runs(tmp_path / "none", 500, 2) == []


def test_machine_without_enough_memory_is_refused_with_the_numbers():
    check_safe(GIB, 3 * GIB)
    with pytest.raises(RefusedError, match=r"up to 3\.0 GiB with 2 GiB to spare, 2\.5 GiB are"):
        check_safe(GIB, 5 * GIB // 2)
    with pytest.raises(RefusedError):
        check_safe(GIB, 4 * GIB, is_free_run_wanted=3 * GIB)


def test_swap_file_is_sized_by_what_is_free():
    assert size_for(2 * GIB, 100 * GIB) == 2 * GIB
    assert size_for(2 * GIB, 5 * GIB + 512 * MIB) == GIB + 512 * MIB
    with pytest.raises(RefusedError, match=r"2\.0 GiB is wanted and 4\.5 GiB are free"):
        size_for(2 * GIB, 4 * GIB + 512 * MIB)


def test_swap_holds_what_a_limit_leaves_out():
    models = [GIB, GIB, GIB]
    limit = limit_bytes(1.25, GIB)
    assert wanted_swap_bytes(models, limit) > sum(models) - limit
    assert wanted_swap_bytes(models, limit_bytes(0.6, GIB)) > wanted_swap_bytes(models, limit)


def judged(*runs):
    return {verdict.figure: verdict for verdict in verdicts(rows_of(list(runs)))}


def test_verdicts_compare_both_arms_and_say_what_is_missed():
    found = judged(
        run("kept", firsts=(10.0, 40.0), swap_in=1000, swap_out=1000),
        run("hotseat", firsts=(2.0, 9.0), swap_in=10),
        run("hotseat", None),
    )
    assert found["first token, median over kept's"].is_met
    assert not found["first token, max over kept's"].is_met
    assert found["OS swap over kept's"].value == 0.005
    assert found["hotseat: completed"].is_met
    assert found["hotseat: tokens equal"].value == 1.0


def test_arm_that_never_completed_is_the_faster_one_in_nothing():
    found = judged(run("kept"), run("hotseat", firsts=(), outcome="worker_lost"))
    assert [(figure, one.is_met) for figure, one in found.items()] == [
        ("hotseat: completed", False)
    ]


def test_tokens_are_compared_with_the_arms_own_reference():
    found = judged(
        run("hotseat", tokens=(1, 3)), run("hotseat", None), run("kept", None, tokens=(1, 3))
    )
    assert not found["hotseat: tokens equal"].is_met


def test_run_that_failed_is_counted_and_its_reason_kept():
    killed = run("kept-no-swap", firsts=(), outcome="killed by the system")
    row = rows_of([killed, run("kept-no-swap", number=1)])[0]
    assert (row.runs, row.completed, row.failure) == (2, 1, "killed by the system")
    assert not judged(killed)


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantile_lies_among_the_values(values, share):
    assert min(values) <= quantile(values, share) <= max(values)


@pytest.mark.needs_linux("reads the machine's own swap counters")
def test_counters_of_version_two_are_read_from_its_files(tmp_path):
    """Of a made-up group: its own files are the kernel's."""
    group = Group(Place(version=2, memory=str(tmp_path), unified=str(tmp_path)), "g", tmp_path)
    assert group.folders == (tmp_path / "g",)
    (tmp_path / "g").mkdir()
    for name, text in {
        "memory.current": "500\n",
        "memory.swap.current": "70\n",
        "memory.stat": "anon 300\nfile 150\npgmajfault 9\nworkingset_refault_file 2\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "cpu.stat": "usage_usec 2500000\n",
        "memory.pressure": "some avg10=1 total=3000000\nfull avg10=0 total=1000000\n",
    }.items():
        (tmp_path / "g" / name).write_text(text)
    now = group.counters()
    assert (now.usage, now.swap, now.anon, now.cache, now.major_faults) == (500, 70, 300, 150, 9)
    assert (now.cpu_s, now.psi_some_s, now.psi_full_s, now.oom_kills) == (2.5, 3.0, 1.0, 1)
    assert now.refault_file == 2 * PAGE


@pytest.mark.parametrize(
    ("system", "user", "reason"),
    [("darwin", 0, "no other system"), ("linux", 501, "root is needed")],
)
def test_what_cannot_be_done_here_is_refused_with_its_reason(system, user, reason):
    with pytest.raises(RefusedError, match=reason):
        usable_place(system, user)


def test_machine_without_groups_is_refused(tmp_path):
    (tmp_path / "cgroup").write_text("")
    (tmp_path / "mountinfo").write_text("")
    with pytest.raises(RefusedError, match="no control groups"):
        find_place(tmp_path)


def test_bystander_tells_when_tasks_were_due_and_how_long_they_took():
    command = [sys.executable, "-m", "benchmarks.proof.bystander"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            rows = [msgspec.json.decode(process.stdout.readline()) for _ in range(3)]
        finally:
            process.kill()
    dues = [due for due, _ in rows]
    assert [round(later - due, 3) for due, later in itertools.pairwise(dues)] == [0.1, 0.1]
    assert all(took > 0 for _, took in rows)


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        (
            "m needs 2 GiB; largest holders: editor (1.0 GiB); close some",
            "m needs 2 GiB; close some",
        ),
        ("not done in time", "not done in time"),
    ],
)
def test_result_files_do_not_name_other_programs(reason, kept):
    assert without_others(reason) == kept


def test_tables_of_a_finished_experiment_are_printed_without_making_anything(capsys, monkeypatch):
    """From the raw data that the page of the proof shows."""
    monkeypatch.setattr(chaos, "_make", None)
    assert chaos.main(["--quick", "--resume"]) in {0, 1}
    told = capsys.readouterr().out
    assert [arm for arm in WAYS if f"{arm} " not in told] == []
    assert told.count("figure: ") >= 7
    assert degrade.main(["--quick", "--resume"]) == 0
    assert "0.6 x" in capsys.readouterr().out
