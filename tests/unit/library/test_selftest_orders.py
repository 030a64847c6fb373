"""What the selftest's own processes write, measure and say, in this process."""

import io

import msgspec
import pytest

from hotseat.library.selftest.disk import store_file, sync_files
from hotseat.library.selftest.engine_driver import Arrival, Course, EngineDriver
from hotseat.library.selftest.memory import touch_memory
from hotseat.library.selftest.models import CONTEXT, make_models, write_model
from hotseat.library.selftest.speed import _rates, decode_bare, decode_engine, prompt_ids
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import RECORD_FILE, ModelRecord
from hotseat.protocol.selftest import (
    LIBRARY_ORDER,
    DecodeBare,
    DecodeEngine,
    MakeModels,
    StoreFile,
    SyncFiles,
    TouchMemory,
    sample_text,
)
from hotseat.worker.text.tokenizer import open_tokenizer


def figures(measured):
    return {figure.name: figure.samples for figure in measured.figures}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("selftest")
    return home, make_models(MakeModels(home=str(home), names=("one", "two")))


def record_of(home, name):
    path = home / "models" / name / RECORD_FILE
    return msgspec.json.decode(path.read_bytes(), type=ModelRecord)


def test_small_models_are_registered_and_can_be_served(models):
    home, measured = models
    one, two = record_of(home, "one"), record_of(home, "two")
    assert one.unfit_reason == two.unfit_reason == ""
    assert one.context_tokens == CONTEXT
    assert one.tag != two.tag
    assert figures(measured)["weights_bytes"] == (one.weights_bytes, two.weights_bytes)
    assert one.weights_bytes < 4 * MIB


def test_model_of_one_seed_is_the_same_bytes_each_time(models, tmp_path):
    home, _ = models
    again = write_model(tmp_path / "again", 0)
    for file in again.iterdir():
        assert file.read_bytes() == (home / "src" / "one" / file.name).read_bytes()


def test_text_becomes_tokens_and_the_same_text_again(models):
    home, _ = models
    tokenizer = open_tokenizer(home / "src" / "one", ())
    text = f"{sample_text(30)} über <|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(prompt_ids(tokenizer, 40, 1)) == 40
    assert (
        prompt_ids(tokenizer, 40, 1) == prompt_ids(tokenizer, 40, 1) != prompt_ids(tokenizer, 40, 2)
    )


def test_engine_and_mlx_lm_are_measured_by_the_same_figures(models, tmp_path):
    home, _ = models
    model = str(home / "models" / "one")
    bare = figures(decode_bare(DecodeBare(model=model, prompt_tokens=20, new_tokens=4)))
    order = DecodeEngine(
        model=model, kv_dir=str(tmp_path), prompt_tokens=20, new_tokens=4, rows=(1, 2)
    )
    ours = figures(decode_engine(order))
    ends = ("prefill_tokens_per_s", "decode_tokens_per_s", "cpu_ms_per_token")
    assert set(bare) == {f"mlx_lm_{end}" for end in ends}
    assert set(ours) == {f"{name}_{end}" for name in ("engine", "engine_2_rows") for end in ends}
    assert min(sample for found in (bare, ours) for (sample,) in found.values()) > 0


def test_driver_hears_every_token_of_every_row(models, tmp_path):
    home, _ = models
    driver = EngineDriver(record_of(home, "two"), tmp_path, 1000)
    courses = driver.run([[10, 11, 12], [20, 21, 22, 23]], 6)
    assert [sum(one.tokens for one in course.arrivals) for course in courses] == [6, 6]
    assert all(course.started_at <= course.arrivals[0].at for course in courses)


def test_rates_are_of_the_time_in_which_all_rows_decode():
    one = Course(0.0, (Arrival(2.0, 1.0, 1), Arrival(3.0, 1.2, 2), Arrival(4.0, 1.5, 2)))
    other = Course(0.0, (Arrival(1.0, 0.5, 1), Arrival(2.5, 1.1, 1), Arrival(5.0, 2.0, 9)))
    found = {figure.name: figure.samples[0] for figure in _rates("x", [one, other], 10)}
    assert found == {
        "x_prefill_tokens_per_s": 10.0,  # 20 tokens until the later one began, at 2 s
        "x_decode_tokens_per_s": 2.5,  # 5 tokens from 2 s to 4 s
        "x_cpu_ms_per_token": 100.0,
    }


def test_answer_of_one_token_has_no_decode_rate():
    found = _rates("x", [Course(0.0, (Arrival(2.0, 1.0, 1),))], 10)
    assert [figure.name for figure in found] == ["x_prefill_tokens_per_s"]


def test_disk_is_measured_by_what_it_has_and_left_clean(tmp_path):
    found = sync_files(SyncFiles(folder=str(tmp_path), count=2))
    told = figures(found)
    assert len(told["fsync_file_ms"]) == len(told["fsync_folder_ms"]) == len(told["link_ms"]) == 2
    absent = {one.name for one in found.absent}
    for way in ("barrier_fsync", "full_fsync"):
        assert (f"{way}_file_ms" in told) != (way in absent)
    assert list(tmp_path.iterdir()) == []


def test_stored_file_is_read_as_it_was_written(tmp_path):
    told = figures(store_file(StoreFile(folder=str(tmp_path), size_bytes=MIB, count=2)))
    assert told["size_bytes"] == (MIB,)
    assert told["equal_share"] == (1.0,)
    assert len(told["write_mib_per_s"]) == len(told["read_mib_per_s"]) == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_memory_is_held_between_the_two_lines_it_is_told():
    lines, said = io.StringIO("go\nend\n"), []
    found = touch_memory(TouchMemory(size_bytes=64 * MIB), lines, said.append)
    told = figures(found)
    assert len(said) == 2
    grown = told["own_held_bytes"][0] - told["own_before_bytes"][0]
    assert abs(grown - 64 * MIB) < 0.1 * 64 * MIB
    assert told["own_after_bytes"][0] - told["own_before_bytes"][0] < 0.1 * 64 * MIB


@pytest.mark.parametrize(
    "order",
    [
        MakeModels(home="h", names=("a",)),
        TouchMemory(size_bytes=1),
        StoreFile(folder="f", size_bytes=1, count=1),
    ],
)
def test_order_is_read_as_it_was_sent(order):
    assert LIBRARY_ORDER.decode(msgspec.json.encode(order)) == order


def test_texts_of_two_seeds_differ_in_their_first_words():
    first = [" ".join(sample_text(40, seed).split()[:2]) for seed in range(50)]
    assert len(set(first)) == 50
    assert sample_text(40, 3) == sample_text(40, 3)
    assert len(sample_text(40, 3).split()) == 42
