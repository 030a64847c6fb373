"""An error of the GPU ends the worker wherever mlx may raise it, and fails nobody's request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engine.engine_harness import WHOLE, FakeSupervisor, prompt_tokens, tiny_record
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol.exits import EX_GPU, EX_OUT_OF_MEMORY
from hotseat.protocol.link_orders import Suspend
from hotseat.protocol.link_reports import (
    Broken,
    Emitted,
    Failed,
    Finished,
    Loaded,
    Prefilled,
    Refused,
    Warmed,
)
from hotseat.worker.batch import context_source, lane, runner
from hotseat.worker.batch.lane import Lane
from hotseat.worker.batch.rows import DecodingRows
from hotseat.worker.context import keeper, restoring
from hotseat.worker.context.live import LiveSession
from hotseat.worker.dying import GpuLostError, tells_of_gpu, tells_of_memory
from hotseat.worker.model import loading
from hotseat.worker.process import exit_code_of

OUT_OF_MEMORY = "[METAL] Command buffer execution failed: Insufficient Memory (00000008)"
LONG = prompt_tokens(600)
SHORT = prompt_tokens(20)
WORDS = st.text("abc of()0:", max_size=20)


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama")


@pytest.fixture(scope="module")
def recurrent(home):
    return tiny_record(home, "falcon_h1", name="states")


def failing(text=METAL_ERROR):
    def raises(*_args, **_options):
        raise RuntimeError(text)

    return raises


def drive(supervisor, until=Finished):
    """Steps until something is raised: its exit code, and what was told of requests meanwhile."""
    seen = len(supervisor.messages)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its exit code is what counts
        supervisor.until(until)
    supervisor.pump()
    ends = (Broken, Failed, Refused, Finished)
    return exit_code_of(raised.value), [m for m in supervisor.messages[seen:] if type(m) in ends]


def in_prefill(supervisor, monkeypatch):
    supervisor.start(LONG)
    supervisor.until(Prefilled)
    monkeypatch.setattr(lane._Feeding, "feed", failing())


def in_decode(supervisor, monkeypatch):
    supervisor.start(SHORT)
    supervisor.until(Emitted)
    monkeypatch.setattr(DecodingRows, "step", failing())


def in_what_is_drawn(supervisor, monkeypatch):
    monkeypatch.setattr(DecodingRows, "pending", failing())
    supervisor.start(SHORT)


def in_the_sampler(supervisor, monkeypatch):
    monkeypatch.setattr(DecodingRows, "_draw", failing())
    supervisor.start(SHORT)


def in_log_probabilities(supervisor, monkeypatch):
    monkeypatch.setattr(runner, "top_logprobs", failing())
    supervisor.start(SHORT, logprobs=2)


def in_a_join(supervisor, monkeypatch):
    monkeypatch.setattr(Lane, "insert", failing())
    supervisor.start(SHORT)


def in_capture(supervisor, monkeypatch):
    monkeypatch.setattr(keeper, "capture_parts", failing())
    supervisor.start(LONG)


def in_a_cut(supervisor, monkeypatch):
    supervisor.turn(SHORT, "s")
    supervisor.contexts["s"] = supervisor.contexts["s"][:10]
    monkeypatch.setattr(LiveSession, "trim", failing())
    supervisor.start(SHORT[10:], "s")


def in_a_twin(supervisor, monkeypatch):
    supervisor.turn(LONG, "s")
    monkeypatch.setattr(context_source, "twin_of", failing())
    supervisor.start(LONG)


def in_restore(supervisor, monkeypatch):
    supervisor.turn(LONG)
    supervisor.seat()
    monkeypatch.setattr(restoring, "rebuild_caches", failing())
    supervisor.start(LONG)


def in_room_for_a_restore(supervisor, monkeypatch):
    supervisor.turn(LONG)
    supervisor.seat()
    monkeypatch.setattr(context_source, "Room", failing())
    supervisor.start(LONG)


PLACES = (
    in_prefill,
    in_decode,
    in_what_is_drawn,
    in_the_sampler,
    in_log_probabilities,
    in_a_join,
    in_capture,
    in_a_cut,
    in_a_twin,
    in_restore,
    in_room_for_a_restore,
)


@pytest.mark.parametrize("place", PLACES)
def test_error_of_the_gpu_ends_the_worker_and_no_request(record, supervisors, monkeypatch, place):
    supervisor = supervisors(record)
    place(supervisor, monkeypatch)
    assert drive(supervisor) == (EX_GPU, [])


def test_error_in_the_states_of_recurrent_layers_ends_the_worker(
    recurrent, supervisors, monkeypatch
):
    supervisor = supervisors(recurrent)
    monkeypatch.setattr(keeper, "capture_states", failing())
    supervisor.start(SHORT)
    assert drive(supervisor) == (EX_GPU, [])


def test_error_while_a_row_leaves_ends_the_worker(record, supervisors, monkeypatch):
    supervisor = supervisors(record)
    request = supervisor.start(SHORT, max_tokens=500)
    supervisor.until(Emitted)
    monkeypatch.setattr(DecodingRows, "settle", failing())
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its exit code is what counts
        supervisor.engine.handle(Suspend(request=request, hold_as="h"))
    assert exit_code_of(raised.value) == EX_GPU


@pytest.mark.parametrize("during", ["load", "warm"])
def test_error_while_a_model_is_seated_ends_the_worker(record, tmp_path, monkeypatch, during):
    supervisor = FakeSupervisor(record, tmp_path / "kv", **WHOLE)
    name = {"load": "_evaluate_weights", "warm": "new_caches"}[during]
    monkeypatch.setattr(loading, name, failing())
    with pytest.raises(GpuLostError) as raised:
        supervisor.seat()
    supervisor.unseat()
    assert exit_code_of(raised.value) == EX_GPU
    told = {type(message) for message in supervisor.messages}
    assert not told & {Failed, Warmed}
    assert (Loaded in told) == (during == "warm")


def test_want_of_memory_fails_the_request_and_again_at_once_ends_the_worker(
    record, supervisors, monkeypatch
):
    supervisor = supervisors(record)
    monkeypatch.setattr(DecodingRows, "step", failing(OUT_OF_MEMORY))
    first = supervisor.start(SHORT)
    with pytest.raises(AssertionError, match="memory_pressure"):
        supervisor.until(Finished, first)
    second = supervisor.start(SHORT)
    code, told = drive(supervisor)
    assert code == EX_OUT_OF_MEMORY
    assert [(one.request, one.code) for one in told] == [(second, "memory_pressure")]


def test_token_in_between_makes_want_of_memory_past(record, supervisors, monkeypatch):
    supervisor = supervisors(record)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(DecodingRows, "step", failing(OUT_OF_MEMORY))
            request = supervisor.start(SHORT)
            with pytest.raises(AssertionError, match="memory_pressure"):
                supervisor.until(Finished, request)
        assert supervisor.turn(SHORT).finished.completion_tokens == 8


@pytest.mark.parametrize("text", [METAL_ERROR, OUT_OF_MEMORY, "[METAL] anything", "Metal", ""])
def test_text_tells_of_memory_or_of_the_gpu_or_of_neither(text):
    expected = {METAL_ERROR: (False, True), "[METAL] anything": (False, True)}
    found = (tells_of_memory(text), tells_of_gpu(text))
    assert found == expected.get(text, (text == OUT_OF_MEMORY, False))


@given(WORDS, st.sampled_from(["malloc", "OutOfMemory", "out of memory", ""]), WORDS)
def test_no_text_tells_of_both(before, sign, after):
    text = f"[METAL] {before}{sign}{after}"
    assert tells_of_gpu(text) != tells_of_memory(text)
