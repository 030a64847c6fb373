"""Refusals name who holds the memory; nobody is asked for longer than a refusal is worth."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.supervisor.machine.figures import Holder, LoadedElsewhere
from hotseat.supervisor.models import short_memory
from hotseat.supervisor.models.short_memory import MemoryHolders


class Program:
    name = "Ollama"

    def __init__(self, *models, keeps=False):
        self.models = list(models)
        self.keeps = keeps
        self.looks = 0

    def loaded(self):
        self.looks += 1
        return [
            LoadedElsewhere(
                program=self.name,
                model=model,
                size_bytes=6 * GIB,
                command=f"ollama stop {model}",
            )
            for model in self.models
        ]

    def unload(self, model):
        if not self.keeps:
            self.models.remove(model)


def holders(*programs):
    browser = Holder(name="Browser", size_bytes=3 * GIB)
    probe = SimpleNamespace(holders=lambda _count, _exclude: [browser])
    return MemoryHolders(probe, programs)


def short():
    return HotseatError(
        "memory_pressure",
        "qwen needs 13.3 GiB and 9.0 GiB are available; close other programs",
        model="qwen",
        needed_bytes=13 * GIB,
        available_bytes=9 * GIB,
    )


async def test_refusal_names_models_with_their_command_then_programs_and_the_ways_out():
    error = await holders(Program("llama3:8b")).explained(short())
    assert error.message.startswith("qwen needs 13.3 GiB and 9.0 GiB are available; ")
    assert "llama3:8b in Ollama (6.0 GiB, `ollama stop llama3:8b`)" in error.message
    assert "Browser (3.0 GiB)" in error.message
    assert "--unload-others" in error.message
    assert "--force" in error.message
    assert error.facts["others"] == [
        {
            "program": "Ollama",
            "model": "llama3:8b",
            "size_bytes": 6 * GIB,
            "command": "ollama stop llama3:8b",
        }
    ]
    assert error.facts["holders"] == [["Browser", 3 * GIB]]
    assert error.facts["needed_bytes"] == 13 * GIB


async def test_where_no_model_is_loaded_elsewhere_none_is_offered_to_be_unloaded():
    error = await holders(Program()).explained(short())
    assert "--unload-others" not in error.message
    assert "`hotseat swap qwen --force`" in error.message


async def test_other_errors_pass_and_nobody_is_asked():
    program = Program("a")
    for error in (HotseatError("unknown_model", "x"), HotseatError("memory_pressure", "critical")):
        assert await holders(program).explained(error) is error
    assert program.looks == 0


async def test_many_refusals_at_once_are_one_look():
    program = Program("a")
    known = holders(program)
    errors = await asyncio.gather(*(known.explained(short()) for _ in range(20)))
    assert program.looks == 1
    assert all(error.facts["others"] for error in errors)


async def test_program_that_does_not_answer_keeps_no_other_name_back(monkeypatch):
    monkeypatch.setattr(short_memory, "LOOK_S", 0.05)
    free = threading.Event()
    program = Program("a")
    program.loaded = free.wait
    try:
        error = await holders(program).explained(short())
    finally:
        free.set()
    assert error.facts["others"] == []
    assert error.facts["holders"] == [["Browser", 3 * GIB]]
    assert "9.0 GiB are available" in error.message


@pytest.mark.parametrize(("keeps", "gone"), [(False, True), (True, False)])
async def test_unloading_tells_whether_anything_is_gone_and_is_looked_at_anew(keeps, gone):
    program = Program("a", keeps=keeps)
    known = holders(program)
    await known.explained(short())
    assert await known.unload_others() is gone
    after = await known.explained(short())
    assert bool(after.facts["others"]) is keeps
