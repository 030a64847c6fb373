"""An expert that the disk cannot read ends the requests that need it, and no others.

A real mixture of experts of which some are in memory; the disk answers EIO for one byte.
"""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache
from msgspec import Struct
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import error_of
from tests.support.faults.bad_block_worker import bad_block
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.exits import EX_WEIGHTS
from hotseat.protocol.replies import Chunk
from hotseat.worker.model.building import build_model
from hotseat.worker.streaming.experts import experts_of, switches_of
from hotseat.worker.streaming.places import find_places

LAYERS, EXPERTS, SLOTS = 4, 8, 3
TOKENS = 10
SPARE = 2
"""Steps that may be computed ahead of the last token."""


class Way(Struct, frozen=True):
    """What follows a prompt of one token, and the experts of the last layer at each step."""

    tokens: tuple[int, ...]
    experts: tuple[frozenset[int], ...]


class Router:
    """The whole model in this process."""

    def __init__(self, record):
        self.record = record
        self.model, _ = build_model(Path(record.path))
        self.file = Path(record.path) / "model.safetensors"
        # Found by the names of their classes, so before one is hooked.
        self._places = experts_of(self.model, find_places([self.file]))[LAYERS - 1]
        self._chosen = []
        chosen, (_, module) = self._chosen, switches_of(self.model)[-1]
        base = type(module)

        def call(self, x, indices):
            chosen.append(frozenset(np.array(indices).reshape(-1).tolist()))
            return base.__call__(self, x, indices)

        module.__class__ = type("Watched", (base,), {"__call__": call})

    def way(self, token):
        self._chosen.clear()
        cache, drawn = make_prompt_cache(self.model), [token]
        for _ in range(TOKENS + SPARE):
            logits = self.model(mx.array([drawn[-1:]]), cache=cache)[0, -1]
            drawn.append(int(mx.argmax(logits)))
        return Way(tuple(drawn[1 : TOKENS + 1]), tuple(self._chosen))

    def middle_of(self, expert):
        """A byte of it, in the last layer, that shares no block of the disk with another one."""
        offset, size = self._places["up_proj.weight"].row(expert)
        return self.file, offset + size // 2


def choose(router):
    """(expert, prompt that comes to it while it decodes, prompt that never does)."""
    warm = router.way(router.record.eos_token_ids[0]).experts[0]
    ways = {token: router.way(token) for token in range(10, 60)}
    for expert in sorted(set(range(EXPERTS)) - warm):
        firsts = {
            token: next((at for at, used in enumerate(way.experts) if expert in used), None)
            for token, way in ways.items()
        }
        asks = [token for token, at in firsts.items() if at and 2 < at < TOKENS - SPARE]
        never = [token for token, at in firsts.items() if at is None]
        if asks and never:
            return expert, (asks[0], ways[asks[0]]), (never[0], ways[never[0]])
    raise AssertionError("no such expert: take another seed")


class DaemonOnABadDisk(LiveDaemon):
    """`bad` is (path, byte)."""

    def environment(self):
        return super().environment() | bad_block(*self.bad)


@pytest.fixture
def daemon():
    daemon = DaemonOnABadDisk(settings="[deadlines]\nback_off_s = 0.01\n")
    fields = {"num_hidden_layers": LAYERS, "num_local_experts": EXPERTS}
    daemon.record = register_tiny(daemon.home, "moe", "mixtral", seed=3, fields=fields)
    router = Router(daemon.record)
    expert, daemon.asks, daemon.never = choose(router)
    daemon.bad = router.middle_of(expert)
    with daemon:
        yield daemon


def hold_experts(daemon, client):
    """The budget for some experts of each layer, and half the context there could be."""
    whole, parts = client.plan("moe"), daemon.record.parts
    context = whole.sessions[0].bytes_per_session // 2
    held = parts.total - sum(parts.experts) * (EXPERTS - SLOTS) // EXPERTS + max(parts.experts)
    limit = whole.overhead_bytes + whole.prefill_peak_bytes + context + held
    (daemon.home / "config.toml").write_text(
        f"[memory]\nlimit_bytes = {limit}\n[deadlines]\nback_off_s = 0.01\n"
    )
    client.reload()


def hear(stream, tokens):
    """Appends what comes to `tokens` until the end, which it returns or raises."""
    for event in stream.events():
        if isinstance(event, Chunk):
            tokens += event.tokens
    return stream.result()


def begin(client, token):
    return client.generate("moe", tokens=[token], max_tokens=TOKENS, temperature=0.0)


def test_request_that_needs_an_expert_that_cannot_be_read_ends_and_others_go_on(daemon):
    (asking, asked_way), (standing_by, way) = daemon.asks, daemon.never
    with daemon.client() as client, daemon.client() as other, EventTimes(daemon) as events:
        hold_experts(daemon, client)
        plan = client.plan("moe")
        assert plan.residence.mode == "experts", plan.reason
        asks, tokens = begin(client, asking), []
        stands_by = begin(other, standing_by)
        error = error_of(hear, asks, tokens)
        assert (error.code, error.facts["returncode"]) == ("model_unavailable", EX_WEIGHTS)
        file = daemon.bad[0]
        assert error.message.startswith(f"weights of moe cannot be read: {file} failed at byte")
        assert "Input/output error" in error.message
        assert stands_by.result().tokens == way.tokens
        assert begin(other, standing_by).result().tokens == way.tokens
        ended = [event for _, event in events.named("worker.exited")]
        assert len([event for event in ended if "cannot be read" in event.facts["reason"]]) == 3
        assert 0 < len(tokens) < TOKENS
        assert tuple(tokens) == asked_way.tokens[: len(tokens)]
