"""A few of the architectures of `make kinds`: those of which no other test has the like."""

import pytest
from benchmarks.kinds.course import registered, swapped
from benchmarks.kinds.result import KindResult
from tests.support.models.kinds.table import ARCHITECTURES

CHOSEN = ("gemma3n", "qwen3_5", "nemotron_h", "rwkv7")
"""Shared KV and per-layer inputs; gated deltas in a nested model; three kinds of layers; no KV."""


@pytest.mark.parametrize("kind", CHOSEN)
def test_conversation_goes_on_after_each_swap_with_the_same_tokens(kind, tmp_path):
    architecture = next(one for one in ARCHITECTURES if one.kind == kind)
    record = registered(architecture.make(tmp_path / "src"), tmp_path, "m")
    result = swapped(KindResult(kind=kind, models=""), record, tmp_path)
    assert (result.goes_on, result.appends) == (True, True)
