"""A model's code is tried with contexts from files once for a version, not once a seating."""

import mlx_lm
import pytest
from msgspec.structs import replace
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record

from hotseat.protocol.installed_code import Code
from hotseat.protocol.link_reports import TRYING, ContextsTried, Refused
from hotseat.protocol.streamed_contexts import Reading, held_with, streamable_entries
from hotseat.worker.batch import model_trial
from hotseat.worker.context.streamed import why_not_streamed

LONG, PASSES = 1100, 6


def seated(home, trial=None, **changes):
    """A worker whose memory does not hold a prompt of `LONG`."""
    record = replace(tiny_record(home, "llama"), **changes)
    place = held_with(record, LONG + 300, tuple(streamable_entries(record.layers)))
    options = {"contexts": Reading(), "kv_budget_bytes": place.held_bytes, "trial": trial}
    supervisor = FakeSupervisor(record, home / "kv", **options)
    supervisor.seat()
    return supervisor


def tried(supervisor):
    return [one.trial for one in supervisor.messages if isinstance(one, ContextsTried)]


def passes_of_a_turn(supervisor):
    supervisor.turn(prompt_tokens(LONG), max_tokens=2)
    supervisor.turn(prompt_tokens(LONG, seed=1), max_tokens=2)
    passes = supervisor.engine._seat.trial.passes
    supervisor.unseat()
    return passes


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """What the first seating of a model found out."""
    supervisor = seated(tmp_path_factory.mktemp("first"))
    assert passes_of_a_turn(supervisor) == PASSES
    (trial,) = tried(supervisor)
    assert trial.why == ""
    return trial


def test_second_seating_makes_no_trial(tmp_path, first):
    again = seated(tmp_path, first, registered_at=registered_at(first))
    assert passes_of_a_turn(again) == 0
    assert tried(again) == []


def test_context_that_fits_has_nothing_tried(tmp_path):
    supervisor = seated(tmp_path)
    supervisor.turn(prompt_tokens(50), max_tokens=2)
    assert supervisor.engine._seat.trial.passes == 0
    supervisor.unseat()


@pytest.mark.parametrize("changed", ["mlx", "mlx-lm", "hotseat", "files of hotseat", "import"])
def test_changed_version_or_a_model_that_is_imported_again_makes_another_one(
    tmp_path, monkeypatch, first, changed
):
    at = registered_at(first)
    match changed:
        case "mlx":
            monkeypatch.setattr(model_trial.mx, "__version__", "0.0.1")
        case "mlx-lm":
            monkeypatch.setattr(mlx_lm, "__version__", "0.0.1")
        case "hotseat" | "files of hotseat":
            own = model_trial.own_code()
            version = "0.0.1" if changed == "hotseat" else own.version
            code = Code(version=version, digest=own.digest if changed == "hotseat" else "other")
            monkeypatch.setattr(model_trial, "own_code", lambda: code)
        case "import":
            at += 1.0
    again = seated(tmp_path, first, registered_at=at)
    assert passes_of_a_turn(again) == PASSES
    (trial,) = tried(again)
    assert trial.under != first.under


def test_model_that_was_found_to_use_contexts_otherwise_keeps_them_unasked(tmp_path, first):
    known = replace(first, why="its code uses the context of a layer outside of that layer")
    supervisor = seated(tmp_path, known, registered_at=registered_at(first))
    supervisor.start(prompt_tokens(LONG))
    supervisor.pump()
    refused = supervisor.messages[-1]
    assert isinstance(refused, Refused) and known.why in refused.message
    assert supervisor.engine._seat.trial.passes == 0
    supervisor.unseat()


def test_trial_that_fails_on_its_way_is_kept_for_no_other_seating(tmp_path, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(model_trial, "why_not_streamed", fails)
    supervisor = seated(tmp_path)
    supervisor.start(prompt_tokens(LONG))
    supervisor.pump()
    assert "does not take it (MemoryError)" in supervisor.messages[-1].message
    assert tried(supervisor) == []
    assert supervisor.engine.beat().phase == "ready"
    supervisor.unseat()


def test_beats_say_so_meanwhile_and_advance_with_every_pass(tmp_path, monkeypatch):
    beats = []

    def watched(model, record, entries, on_pass):
        def passed():
            on_pass()
            beats.append(supervisor.engine.beat())

        return why_not_streamed(model, record, entries, passed)

    monkeypatch.setattr(model_trial, "why_not_streamed", watched)
    supervisor = seated(tmp_path)
    before = supervisor.engine.beat()
    supervisor.turn(prompt_tokens(LONG), max_tokens=2)
    assert [beat.phase for beat in (before, *beats)] == ["ready"] + [TRYING] * PASSES
    steps = [beat.step for beat in (before, *beats)]
    assert steps == list(range(before.step, before.step + PASSES + 1))
    assert supervisor.engine.beat().phase == "ready"
    supervisor.unseat()


def registered_at(trial):
    """That of the model it was made with."""
    return float(trial.under.rsplit(" ", 1)[1])
