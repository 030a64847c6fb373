"""What rests and long prompts cost: first tokens after a pause, the peak of a prefill."""

import time
from typing import Final

from hotseat.cli.selftest.measures.own_stage import OwnStage, ask, seated, wait_for
from hotseat.cli.selftest.rules.orders import ReachLimits, Rest
from hotseat.protocol.selftest import Figure, Measured, figure, sample_text

_MS: Final = 1000.0
_WORDS: Final = 20
_TOKENS: Final = 32
_BEAT_S: Final = 2.5
"""Figures of a worker at rest are no older."""


def rest(order: Rest, own: OwnStage) -> Measured:
    """The same short question after each rest; its prompt is in memory from the first time."""
    client, model = own.client(order.stage), order.stage.model
    seated(client, model)
    text = sample_text(_WORDS, 2)
    ask(client, model, text, _TOKENS)
    figures: list[Figure] = []
    for rest_s in order.rests_s:
        time.sleep(rest_s)
        found = ask(client, model, text, _TOKENS)
        figures.append(figure(f"first_token_after_{rest_s:g}_s_rest_ms", found.first_s * _MS))
        figures.append(figure(f"first_32_after_{rest_s:g}_s_tokens_per_s", found.tokens_per_s))
    return Measured(figures=tuple(figures))


def reach_limits(order: ReachLimits, own: OwnStage) -> Measured:
    """MLX's own peak, beside weights, overhead, the forecast for a chunk and contexts."""
    client, model = own.client(order.stage), order.stage.model
    seated(client, model)
    plan = client.plan(model)
    found = ask(client, model, sample_text(order.words, 3), 1)
    asked_at = time.monotonic()
    view = wait_for(
        client,
        lambda seen: bool(seen.worker.peak_bytes) and time.monotonic() - asked_at > _BEAT_S,
        "a beat",
    )
    contexts = max(
        view.worker.live_kv_bytes or 0,
        plan.kv_bytes_per_token * found.prompt_tokens + plan.window_bytes + plan.state_bytes,
    )
    forecast = plan.weights_bytes + plan.overhead_bytes + plan.prefill_peak_bytes + contexts
    return Measured(
        figures=(
            figure("prompt_tokens", found.prompt_tokens),
            figure("peak_bytes", view.worker.peak_bytes or 0),
            figure("forecast_bytes", forecast),
            figure("forecast_prefill_bytes", plan.prefill_peak_bytes),
            figure("footprint_bytes", view.worker.footprint_bytes or 0),
        )
    )
