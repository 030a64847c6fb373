"""Promise: KV of another model is never used: other weights, tokenizer, template, quantisation or
layout make another tag, and a file under a foreign tag is refused with the reason.
"""

import itertools
import shutil

import msgspec
import pytest
from tests.support.engine.kv_payloads import FULL, WINDOW, make_payload
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.model import LayerSpec
from hotseat.worker.store.kv_file import KvDamagedError, read_kv, write_kv
from hotseat.worker.store.layout import check_layout

MODELS = {
    "base": {},
    "weights": {"seed": 2},
    "tokenizer": {"vocab": 520},
    "template": {"template": "thinking"},
    "layout": {"dtype": "bfloat16"},
    "architecture": {"kind": "qwen3"},
}
LAYOUTS = {
    "full": (FULL,),
    "more layers": (FULL, FULL),
    "heads": (LayerSpec(kind="full", kv_heads=1, k_dim=4, v_dim=3),),
    "dims": (LayerSpec(kind="full", kv_heads=2, k_dim=8, v_dim=3),),
    "window": (WINDOW,),
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    home = tmp_path_factory.mktemp("foreign")
    made = {}
    for name, options in MODELS.items():
        chosen = {"kind": "llama", "seed": 1} | options
        made[name] = register_tiny(home, name, chosen.pop("kind"), **chosen)
    return made


def test_every_pair_of_models_refuses_the_others_checkpoints(row, records, tmp_path):
    runs = 0
    for (one, mine), (two, foreign) in itertools.permutations(records.items(), 2):
        assert mine.tag != foreign.tag, f"{one} and {two} have the same tag"
        payload = make_payload([7] * 40, tag=foreign.tag)
        name = f"tails/{one}-{two}.kv"
        write_kv(tmp_path / foreign.tag, name, payload)
        (tmp_path / mine.tag / "tails").mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / foreign.tag / name, tmp_path / mine.tag / name)
        runs += 1
        with pytest.raises(KvDamagedError, match=r"tag") as refused:
            read_kv(tmp_path / mine.tag, name, tag=mine.tag, parent=None, tokens=None)
        assert refused.value.reason == "foreign tag"
    row.record("none", 0, 0, "accepted", runs=runs, what="pairs of models,")


def test_quantisation_is_a_part_of_the_tag(records):
    """Two records that differ in nothing else."""
    from hotseat.protocol.tags import model_tag

    parts = records["base"].tag_parts
    assert model_tag(parts) == records["base"].tag
    for name in msgspec.structs.fields(type(parts)):
        other = msgspec.structs.replace(parts, **{name.name: "another"})
        assert model_tag(other) != records["base"].tag, name.name


def test_every_pair_of_layouts_refuses_the_others_parts(row):
    runs = 0
    for one, two in itertools.permutations(LAYOUTS, 2):
        payload = make_payload([7] * 256, layers=LAYOUTS[two])
        runs += 1
        with pytest.raises(KvDamagedError) as refused:
            check_layout(payload, LAYOUTS[one], "bfloat16")
        assert refused.value.reason
    row.record("none", 0, 0, "accepted", runs=runs, what="pairs of layouts,")
