"""Getting ready for a model, giving it up, and taking the next one in the same process."""

import gc
import os
import threading
import time
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.models.switch_layers import SwitchGLU
from tests.support.engine.engine_harness import WHOLE, make_engine, prompt_tokens, tiny_record

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.link_orders import (
    CountPrompt,
    Load,
    Prepare,
    Reseat,
    Start,
    TextInput,
    Unload,
    Warm,
)
from hotseat.protocol.link_reports import (
    BlockWritten,
    Counted,
    Failed,
    Loaded,
    Prepared,
    Unloaded,
    Warmed,
)
from hotseat.protocol.messages import Sampling
from hotseat.protocol.residence import Residence
from hotseat.worker.counting import count_prompt
from hotseat.worker.model.footprint import footprint_bytes, give_back
from hotseat.worker.model.loading import load_kit, load_model
from hotseat.worker.model.page_cache import PIECE_BYTES, Stretch, available_bytes, warm_stretches
from hotseat.worker.model.preparing import Preparer
from hotseat.worker.model.unloading import names_alive, watch_model
from hotseat.worker.streaming.places import find_places


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama")


@pytest.fixture(scope="module")
def other(home):
    return tiny_record(home, "gemma3", "other", seed=5)


def load_of(supervisor, record) -> Load:
    return Load(record=record, kv_dir=str(supervisor.kv_dir), **supervisor.load)


class Kits:
    """Counts loads; `gate` holds them up."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, record):
        self.loaded.append(record.name)
        assert self.gate.wait(20)
        return load_kit(record)


class Answers:
    def __init__(self) -> None:
        self.messages: list = []
        self._came = threading.Condition()

    def __call__(self, message) -> None:
        with self._came:
            self.messages.append(message)
            self._came.notify_all()

    def wait(self, count: int) -> list:
        with self._came:
            assert self._came.wait_for(lambda: len(self.messages) >= count, 20)
            return self.messages


@pytest.fixture
def preparers():
    made = []

    def make(count_with=count_prompt, **options):
        kits, answers = Kits(), Answers()
        made.append(Preparer(answers, kits, count_with, **options))
        return made[-1], kits, answers

    yield make
    for preparer in made:
        preparer.close()


def test_prepared_tokenizer_is_not_loaded_again(record, preparers):
    preparer, kits, answers = preparers()
    preparer.put(Prepare(record=record))
    assert answers.wait(1) == [Prepared(model=record.name)]
    first = preparer.take(record)
    assert preparer.take(record) is first
    assert kits.loaded == [record.name]


def test_load_waits_for_the_preparation_of_its_model_under_way(record, preparers):
    preparer, kits, answers = preparers()
    kits.gate.clear()
    preparer.put(Prepare(record=record))
    threading.Timer(0.05, kits.gate.set).start()
    preparer.take(record)
    assert kits.loaded == [record.name]
    answers.wait(1)


def test_load_waits_until_all_that_was_asked_is_counted(record, other, preparers):
    """A tokenizer is no thing for two threads, and the engine has it from then on."""
    counted, is_taken = [], threading.Event()

    def count(_kit, order):
        if order.record.tag == other.tag:
            is_taken.wait(0.3)  # a load that does not wait gets its tokenizer here
        counted.append(order.record.name)
        return Counted(request=order.start.request)

    preparer, kits, answers = preparers(count_with=count)
    kits.gate.clear()
    for one in (record, other, record):
        start = Start(
            request=RequestKey("count:1"),
            session=None,
            input=TextInput(text="x"),
            clock=0.0,
            sampling=Sampling(),
            seed=0,
        )
        preparer.put(CountPrompt(record=one, start=start))
    threading.Timer(0.05, kits.gate.set).start()
    preparer.take(record)
    before_the_load = list(counted)
    is_taken.set()
    answers.wait(3)
    assert before_the_load == [record.name, other.name, record.name]


def test_kits_beyond_the_limit_go_oldest_first(record, other, preparers):
    preparer, kits, answers = preparers(limit_bytes=1)
    for one in (record, other):
        preparer.put(Prepare(record=one))
    answers.wait(2)
    assert list(preparer._kits) == [other.tag]
    preparer.take(record)
    assert kits.loaded == [record.name, other.name, record.name]


def test_model_that_cannot_be_prepared_is_answered_and_fails_at_its_load(record, preparers):
    preparer, _kits, answers = preparers()
    lost = msgspec.structs.replace(record, path=record.path + "-gone")
    preparer.put(Prepare(record=lost, warm_pages=True))
    assert answers.wait(1) == [Prepared(model=record.name, warmed_bytes=0)]


def test_weights_are_read_ahead_above_the_floor_only(record, preparers):
    preparer, _kits, answers = preparers()
    preparer.put(Prepare(record=record, warm_pages=True))
    size = (Path(record.path) / "model.safetensors").stat().st_size
    assert answers.wait(1)[0].warmed_bytes == size
    floor = 2 * available_bytes()
    preparer.put(Prepare(record=record, warm_pages=True, free_floor_bytes=floor))
    assert answers.wait(2)[1].warmed_bytes == 0


def test_of_a_model_that_is_read_in_part_only_what_stays_is_read_ahead(record, preparers):
    preparer, _kits, answers = preparers()
    preparer.put(Prepare(record=record, warm_pages=True))
    whole = answers.wait(1)[0].warmed_bytes
    layers = Residence(mode="layers", streamed=(0,))
    preparer.put(Prepare(record=record, warm_pages=True, residence=layers))
    part = answers.wait(2)[1].warmed_bytes
    file = Path(record.path) / "model.safetensors"
    stays = [place.size for name, place in find_places([file]).items() if ".layers.0." not in name]
    assert 0 < part == sum(stays) < whole == file.stat().st_size


@pytest.mark.parametrize(
    "head",
    [b"", b"abc", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b'{"a": {}}'],
)
def test_file_without_a_header_is_not_read_ahead_and_the_standby_lives(tmp_path, preparers, head):
    record = tiny_record(tmp_path, "llama")
    (Path(record.path) / "model.safetensors").write_bytes(head)
    preparer, _kits, answers = preparers()
    layers = Residence(mode="layers", streamed=(0,))
    for count in (1, 2):
        preparer.put(Prepare(record=record, warm_pages=True, residence=layers))
        assert answers.wait(count)[-1] == Prepared(model=record.name, warmed_bytes=0)


def test_cancelled_reading_ahead_stops_within_a_piece_of_each_thread(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(6 * PIECE_BYTES))
    asked = []

    def is_cancelled() -> bool:
        asked.append(1)
        return len(asked) > 2

    assert warm_stretches([Stretch(path)], 0, is_cancelled) == 2 * PIECE_BYTES


@pytest.mark.needs_linux("RWF_NOWAIT looks into the page cache")
def test_file_out_of_the_page_cache_is_back_in_it_after_reading_ahead(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(2 * PIECE_BYTES))
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        starts = range(0, 2 * PIECE_BYTES, PIECE_BYTES // 16)
        if all(is_cached(fd, start) for start in starts):
            pytest.skip(f"{tmp_path} lies in memory")
        warm_stretches([Stretch(path)], 0, lambda: False)
        deadline = time.monotonic() + 20.0
        while not all(is_cached(fd, start) for start in starts):
            assert time.monotonic() < deadline
    finally:
        os.close(fd)


def is_cached(fd, offset):
    try:
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False


def test_engine_prepares_before_anything_is_loaded_and_loads_from_it(record, tmp_path):
    answers = Answers()
    engine = make_engine(answers)
    engine.handle(Prepare(record=record, warm_pages=True))
    assert isinstance(answers.wait(1)[0], Prepared)
    kit = engine._preparer.take(record)
    engine.handle(
        Load(
            record=record,
            kv_dir=str(tmp_path),
            kv_budget_bytes=GIB,
            cache_limit_bytes=GIB,
            memory_limit_bytes=4 * GIB,
        )
    )
    assert engine._seat.seated.kit.tokenizer is kit.tokenizer
    engine.close()


def test_unload_leaves_nothing_and_another_model_can_be_loaded_under_its_epoch(
    supervisor, record, other, tmp_path
):
    engine = supervisor.engine
    supervisor.turn(prompt_tokens(300), "s", max_tokens=20)
    engine.handle(Unload())
    unloaded = supervisor.until(Unloaded)
    assert unloaded.leaked == ()
    assert unloaded.active_before > unloaded.active_after
    assert engine.beat().phase == "empty"
    assert engine.beat().live_sessions == ()
    engine.handle(Reseat(epoch=Epoch(7)))
    supervisor.record, supervisor.kv_dir = other, tmp_path / "other"
    engine.handle(load_of(supervisor, other))
    supervisor.until(Loaded)
    engine.handle(Warm())
    supervisor.until(Warmed)
    supervisor.contexts.clear()
    again = supervisor.turn(prompt_tokens(300), "t", max_tokens=20)
    supervisor.checkpoint()
    assert len(again.tokens) == 20
    assert supervisor.tails[-1].file.startswith("tails/7-")


def test_unload_writes_what_was_put_first(supervisor):
    run = supervisor.start(prompt_tokens(700), "s", max_tokens=300)
    while not supervisor.outcome(run).tokens:
        supervisor.advance()
    supervisor.engine.handle(Unload())
    supervisor.pump()
    kinds = [type(m) for m in supervisor.messages if isinstance(m, BlockWritten | Unloaded)]
    assert kinds == [BlockWritten, BlockWritten, Unloaded]


def test_second_load_without_unload_is_refused(supervisor, other):
    supervisor.engine.handle(load_of(supervisor, other))
    assert supervisor.until(Failed).permanent


def test_repeated_seatings_in_one_process_give_their_memory_back(supervisor, record):
    gc.collect()
    after = []
    for _ in range(4):
        supervisor.turn(prompt_tokens(300), max_tokens=10)
        supervisor.engine.handle(Unload())
        after.append(supervisor.until(Unloaded))
        supervisor.engine.handle(load_of(supervisor, record))
        supervisor.until(Loaded)
    assert all(one.leaked == () for one in after)
    assert len({one.active_after for one in after}) == 1
    assert after[-1].footprint_after - after[0].footprint_after < 8 * MIB


def test_loading_again_and_again_leaves_nothing_behind(record, tmp_path):
    load = Load(
        record=record,
        kv_dir=str(tmp_path),
        kv_budget_bytes=GIB,
        cache_limit_bytes=GIB,
        memory_limit_bytes=0,
    )
    kit = load_kit(record)
    held = []
    for _ in range(3):
        for _ in range(20):
            load_model(load, lambda _done, _total, _next: None, lambda _record: kit)
        give_back()
        held.append(footprint_bytes())
    assert held[-1] - held[0] < MIB


def test_part_that_the_library_shares_between_models_is_no_leak():
    layer = SwitchGLU(8, 8, 2)
    activation = layer.activation
    watched = watch_model(layer)
    del layer
    gc.collect()
    assert names_alive(watched) == ()
    assert activation is not None


def test_module_or_array_that_somebody_keeps_is_named(record, supervisors):
    supervisor = supervisors(record, **WHOLE)
    model = supervisor.engine._seat.seated.model
    kept = model.layers[1].mlp
    array = model.model.embed_tokens.weight
    watched = watch_model(model)
    del model
    supervisor.engine.handle(Unload())
    leaked = supervisor.until(Unloaded).leaked
    assert set(leaked) == set(names_alive(watched))
    assert "model.layers.1.mlp" in leaked
    assert "model.embed_tokens.weight" in leaked
    assert "model.layers.0.mlp" not in leaked
    assert kept is not None
    assert isinstance(array, mx.array)
