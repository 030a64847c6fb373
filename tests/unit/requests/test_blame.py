"""Who is to blame when workers die, and who runs alone meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.requests.rules.blame import (
    MAX_DISK_ENDS,
    MAX_LONE_DEATHS,
    MAX_LONE_KILLS,
    Suspicion,
    after_death,
    after_progress,
    resume_alone,
)
from hotseat.supervisor.scheduling.waiting import Waiting

INNOCENT = after_progress(Suspicion())


def entry(key, model="a", order=0):
    return Waiting(key=key, model=model, order=order, since=0.0)


def die(known, times=1, *, alone=True, by_system=False):
    for _ in range(times):
        known = after_death(known, alone=alone, by_system=by_system)
    return known


def test_request_that_dies_alone_twice_without_progress_is_poison():
    assert not die(Suspicion(), 1).is_poison
    assert die(Suspicion(), MAX_LONE_DEATHS).is_poison


def test_death_after_progress_blames_nobody():
    known = die(Suspicion(advanced=True, lone_deaths=1))
    assert known == Suspicion(is_suspect=True)


def test_death_among_several_makes_suspects_but_counts_against_none():
    assert die(Suspicion(), 9, alone=False) == Suspicion(is_suspect=True)


def test_progress_resets_everything_but_ends_by_the_disk():
    assert after_progress(Suspicion(is_suspect=True, lone_deaths=1, lone_kills=2)) == INNOCENT
    assert not INNOCENT.is_suspect
    assert not die(INNOCENT, MAX_LONE_DEATHS).is_poison


def test_kills_by_the_system_are_counted_apart():
    known = die(die(Suspicion(), 1), MAX_LONE_KILLS - 1, by_system=True)
    assert not known.is_poison
    assert die(known, by_system=True).is_poison


@pytest.mark.parametrize(
    ("ends", "is_poison"),
    [
        ("g", False),
        ("gg", True),  # alone twice
        ("dg", False),  # counted apart from deaths
        ("kgk", False),  # and from kills
        ("kkgd", False),
        ("dgg", True),
        ("GGGGGGG", False),  # beside others
        ("gGg", True),
        ("g.g", False),  # it got further in between
        ("g.gg", False),  # what it got further than is past
        ("g.ggg", True),
    ],
)
def test_loss_of_the_gpu_counts_against_who_was_alone_twice(ends, is_poison):
    known = Suspicion()
    for end in ends:
        if end == ".":
            known = INNOCENT
            continue
        known = after_death(
            known, alone=end.islower(), by_system=end == "k", by_gpu=end.lower() == "g"
        )
        assert known.is_suspect
    assert known.is_poison is is_poison


@pytest.mark.parametrize(
    ("ends", "is_suspect", "is_ended"),
    [
        ("w", False, False),
        (".w.", False, False),
        ("ww", True, False),  # who was there twice comes alone
        (".w.w.", True, False),  # and stays alone, however far it gets
        ("www", True, True),
        (".w.w.w", True, True),  # it gets as far as what it asks for, with every worker
        ("WW", True, False),
        (".W.W.W.W.W", True, False),  # beside others: it may be one of them that asks
        (".W.W.w", True, True),
        ("wdw.w", True, True),  # another death in between is not forgotten for, nor mixed up
        ("dw.", False, False),
        ("dwd", True, False),  # dead twice, alone: poison
    ],
)
def test_end_by_weights_that_cannot_be_read_counts_on_whoever_gets_further(
    ends, is_suspect, is_ended
):
    known = Suspicion()
    for end in ends:
        if end == ".":
            known = after_progress(known)
        else:
            known = after_death(known, alone=end.islower(), by_disk=end.lower() == "w")
    assert known.is_suspect is is_suspect
    assert known.needs_unreadable is is_ended
    assert known.is_poison is (ends == "dwd")


@given(st.lists(st.sampled_from([".", "W", "d", "D"])), st.integers(0, MAX_DISK_ENDS - 2))
def test_whoever_is_beside_others_when_weights_cannot_be_read_is_never_ended_by_it(ends, alone):
    known = Suspicion()
    for end in ["w"] * alone + ends:
        if end == ".":
            known = after_progress(known)
        else:
            known = after_death(known, alone=end.islower(), by_disk=end.lower() == "w")
        assert not known.needs_unreadable


def test_suspects_go_first_and_one_at_a_time():
    waiting = [entry("new"), entry("s1"), entry("s2"), entry("other", "b")]
    assert resume_alone(waiting, [], {"s1", "s2"}) == [waiting[1], waiting[3]]


def test_nothing_joins_a_suspect_that_runs():
    waiting = [entry("new"), entry("other", "b")]
    assert resume_alone(waiting, [entry("s1")], {"s1"}) == [waiting[1]]


def test_suspect_waits_until_it_would_be_alone():
    assert resume_alone([entry("s1")], [entry("new")], {"s1"}) == []


def test_suspects_of_one_model_do_not_hold_up_another():
    waiting = [entry("s1"), entry("x", "b"), entry("y", "b")]
    assert resume_alone(waiting, [], {"s1"}) == waiting


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans()), max_size=12),
)
def test_suspect_never_runs_beside_another_of_its_model(drawn):
    entries = [entry(str(n), model, n) for n, (model, _, _) in enumerate(drawn)]
    suspects = {str(n) for n, (_, suspect, _) in enumerate(drawn) if suspect}
    running = [e for e, (_, _, runs) in zip(entries, drawn, strict=True) if runs]
    waiting = [e for e, (_, _, runs) in zip(entries, drawn, strict=True) if not runs]
    chosen = resume_alone(waiting, running, suspects)
    assert [e for e in waiting if e in chosen] == chosen, "order is kept"
    for model in "ab":
        mine = [e for e in waiting if e.model == model]
        busy = [e for e in running if e.model == model]
        picked = [e for e in chosen if e.model == model]
        held = any(e.key in suspects for e in (*mine, *busy))
        if not held:
            assert picked == mine
        elif busy:
            assert picked == []
        else:
            assert len(picked) == 1, "somebody goes on"
            assert picked[0].key in suspects
