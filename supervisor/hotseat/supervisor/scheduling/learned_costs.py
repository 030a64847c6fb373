"""Measured costs of models: what a swap, a turn, a token and a restored byte take. Pure.

One table, for the scheduler and for quotes, kept over restarts. Running estimates: the newest
measurement counts half, so a machine that got slower is believed after two or three of them;
turns are less alike, and there the newest counts less.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.replies import Timing, Usage

MAX_MODELS: Final = 64
"""Those measured last."""
_NEWEST: Final = 0.5
_NEWEST_TURN: Final = 0.3
_LEAST_S: Final = 1e-4
_CHARACTERS_PER_TOKEN: Final = 4


class ModelCosts(Struct, frozen=True, kw_only=True):
    """Of one model. Rates are per second; None was never measured."""

    swap_s: float | None = None
    """Of a swap to it, beside the drain: what is drained would have been done anyway."""
    turn_s: float | None = None
    """Of a turn on the worker."""
    prefill_tokens_per_s: float | None = None
    restore_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None


class Costs(Struct, frozen=True, kw_only=True):
    """Of all models, by name, those measured last at the end."""

    models: Mapping[str, ModelCosts] = {}

    def of(self, model: str) -> ModelCosts:
        """What is known of a model."""
        return self.models.get(model, ModelCosts())

    def swap_to(self, model: str) -> float | None:
        """Its own cost, or the mean of the others for a model that was never seated."""
        own_s = self.of(model).swap_s
        if own_s is not None:
            return own_s
        known = [costs.swap_s for costs in self.models.values() if costs.swap_s is not None]
        return sum(known) / len(known) if known else None

    def with_swap(self, model: str, seconds: float) -> "Costs":
        """After a swap to `model` that took so long beside its drain."""
        costs = self.of(model)
        return self._with(model, replace(costs, swap_s=_blend(costs.swap_s, seconds)))

    def with_turn(self, model: str, usage: Usage, timing: Timing) -> "Costs":
        """After a request that ran to its end."""
        costs = self.of(model)
        on_worker_s = timing.total_s - timing.queue_s - timing.swap_s
        if on_worker_s > 0.0:
            costs = replace(costs, turn_s=_blend(costs.turn_s, on_worker_s, _NEWEST_TURN))
        prefill_s = timing.ttft_s - timing.queue_s - timing.swap_s - timing.restore_s
        if usage.computed_tokens and prefill_s > _LEAST_S:
            rate = _blend(costs.prefill_tokens_per_s, usage.computed_tokens / prefill_s)
            costs = replace(costs, prefill_tokens_per_s=rate)
        if usage.restored_tokens and timing.restore_s > _LEAST_S:
            rate = _blend(costs.restore_tokens_per_s, usage.restored_tokens / timing.restore_s)
            costs = replace(costs, restore_tokens_per_s=rate)
        if usage.completion_tokens > 1 and timing.decode_s > _LEAST_S:
            rate = _blend(costs.decode_tokens_per_s, usage.completion_tokens / timing.decode_s)
            costs = replace(costs, decode_tokens_per_s=rate)
        return self._with(model, costs)

    def _with(self, model: str, costs: ModelCosts) -> "Costs":
        others = [(name, known) for name, known in self.models.items() if name != model]
        return Costs(models=dict([*others, (model, costs)][-MAX_MODELS:]))


def _blend(before: float | None, newest: float, share: float = _NEWEST) -> float:
    return newest if before is None else before + share * (newest - before)


def seconds_for(tokens: int, tokens_per_s: float | None) -> float | None:
    """Time for that many tokens; None when the rate was never measured."""
    if tokens <= 0:
        return 0.0
    return tokens / tokens_per_s if tokens_per_s else None


def estimate_tokens(characters: int) -> int:
    """Of text that no tokenizer has seen."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def encode_costs(costs: Costs) -> str:
    """For the catalogue."""
    return msgspec.json.encode(costs).decode()


def decode_costs(text: str | None) -> Costs:
    """From the catalogue; damaged ones are forgotten."""
    try:
        return msgspec.json.decode(text, type=Costs) if text else Costs()
    except msgspec.DecodeError:
        return Costs()
