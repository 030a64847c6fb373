"""Slots against whole layers, as a selftest compares them; and that it would tell a difference."""

import mlx.core as mx

from hotseat.library.selftest import slots
from hotseat.library.selftest.slots import compare_slots
from hotseat.protocol.selftest import CompareSlots
from hotseat.worker.streaming.experts import ExpertBank


def figures(tmp_path):
    found = compare_slots(CompareSlots(folder=str(tmp_path)))
    return {figure.name: figure.samples[0] for figure in found.figures}


def test_slots_make_the_bits_of_all_experts_on_this_backend(tmp_path, monkeypatch):
    calls = {"slots": 0, "whole": 0}
    renamed = ExpertBank.renamed

    def counted(self, indices):
        found = renamed(self, indices)
        calls["whole" if found is None else "slots"] += 1
        return found

    monkeypatch.setattr(ExpertBank, "renamed", counted)
    told = figures(tmp_path)
    assert (told["decode_differs_at"], told["batch_differs_at"]) == (-1, -1)
    dtypes = 2 if mx.metal.is_available() else 1
    assert calls == {"slots": 15 * dtypes, "whole": 5 * dtypes}
    assert told["compared_calls"] == 20 * dtypes


def test_one_other_bit_is_told_with_the_call_that_has_it(tmp_path, monkeypatch):
    digest, made = slots._digest, []

    def other(output):
        made.append(output)
        return digest(output) if len(made) != 6 else b"other"

    monkeypatch.setattr(slots, "_digest", other)
    assert figures(tmp_path)["decode_differs_at"] == 2
