"""What is asked of Metal, in which order; nothing where there is none."""

from types import SimpleNamespace

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import Stop, Unload
from hotseat.protocol.link_reports import Loaded, Stopped, Unloaded, Unwired
from hotseat.worker.batch import lane
from hotseat.worker.model import metal
from hotseat.worker.model.metal import WIRED_MARGIN_BYTES, clear_cache, unwire, wire_active

STREAM = metal.generation_stream


class FakeMetal:
    """mlx on a Mac as far as `metal` asks it; memory is what the test or the real mlx says."""

    def __init__(self, *, active=None, recommended=18 * GIB, is_there=True):
        self.calls = []
        self.metal = SimpleNamespace(is_available=lambda: is_there)
        self._active = active
        self._recommended = recommended

    def device_info(self):
        return {"max_recommended_working_set_size": self._recommended}

    def get_active_memory(self):
        return mx.get_active_memory() if self._active is None else self._active

    def set_wired_limit(self, size):
        self.calls.append(("wire", size))

    def synchronize(self, stream=None):
        self.calls.append(("wait", stream))

    def clear_cache(self):
        self.calls.append("clear")


@pytest.fixture
def mac(monkeypatch):
    def put(**answers):
        fake = FakeMetal(**answers)
        monkeypatch.setattr(metal, "mx", fake)
        return fake

    return put


@pytest.mark.parametrize(
    ("active", "is_wanted", "wired"),
    [
        (9 * GIB, True, 9 * GIB),
        (9 * GIB, False, 0),
        (20 * GIB, True, 18 * GIB - WIRED_MARGIN_BYTES),
        (0, True, 0),
    ],
)
def test_what_is_active_after_a_load_is_wired_and_no_more(mac, active, is_wanted, wired):
    fake = mac(active=active)
    wire_active(is_wanted=is_wanted)
    assert fake.calls == [("wire", wired)]


SIZES = st.integers(0, 512 * GIB)


@given(SIZES, SIZES)
def test_wired_is_never_more_than_weights_or_the_working_set(active, recommended):
    fake = FakeMetal(active=active, recommended=recommended)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metal, "mx", fake)
        wire_active(is_wanted=True)
    (_, wired) = fake.calls[0]
    assert 0 <= wired <= active
    assert wired <= max(0, recommended - WIRED_MARGIN_BYTES)


def test_pages_are_unwired_before_the_gpu_is_waited_for(mac):
    fake = mac()
    assert unwire() >= 0.0
    assert fake.calls == [("wire", 0), ("wait", STREAM), ("wait", None)]


def test_cache_is_given_up_once_the_stream_has_ended(mac):
    fake = mac()
    clear_cache()
    assert fake.calls == [("wait", STREAM), "clear"]


def test_nothing_is_asked_where_there_is_no_metal(mac):
    fake = mac(is_there=False)
    wire_active(is_wanted=True)
    assert unwire() is None
    clear_cache()
    assert fake.calls == ["clear"]


def told(supervisor, *kinds):
    return [type(message) for message in supervisor.messages if type(message) in kinds]


def test_worker_wires_weights_once_and_unwires_before_it_lets_go(
    mac, home, supervisors, monkeypatch
):
    monkeypatch.setattr(lane, "_STEPS_KEPT", 3)
    monkeypatch.setattr(lane, "_FED_KEPT", 200)
    fake = mac()
    supervisor = supervisors(tiny_record(home, "llama"))
    loaded = next(m for m in supervisor.messages if isinstance(m, Loaded))
    assert fake.calls == [("wire", loaded.active_bytes)]
    supervisor.turn(prompt_tokens(300))
    used = fake.calls[1:]
    assert used[:2] == [("wait", STREAM), "clear"], "while prompts are fed"
    assert used == [("wait", STREAM), "clear"] * (len(used) // 2), "and between steps"
    assert len(used) >= 6
    del fake.calls[:]
    supervisor.engine.handle(Unload())
    assert fake.calls == [("wire", 0), ("wait", STREAM), ("wait", None)]
    supervisor.pump()
    assert told(supervisor, Unwired, Unloaded) == [Unwired, Unloaded]


def test_worker_that_is_told_so_wires_nothing(mac, home, supervisors):
    fake = mac()
    supervisor = supervisors(tiny_record(home, "llama", "bare"), wire="off")
    assert fake.calls == [("wire", 0)]
    supervisor.engine.handle(Stop())
    supervisor.until(Stopped)
    assert fake.calls == [("wire", 0)], "not before it has stopped"
