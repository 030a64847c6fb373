"""What rests and long prompts cost: first tokens after a pause, the peak of a prefill."""

import time
from typing import TYPE_CHECKING, Final

from hotseat.cli.selftest.measures.own_stage import OwnStage, ask, seated, wait_for
from hotseat.cli.selftest.rules.orders import ReachLimits, Rest
from hotseat.protocol.selftest import Figure, Measured, figure, sample_text
from hotseat.protocol.views import StatusView

if TYPE_CHECKING:
    from hotseat.client.sync import Client

_MS: Final = 1000.0
_WORDS: Final = 20
_TOKENS: Final = 32
_BEAT_S: Final = 2.5
"""Figures of a worker at rest are no older."""
_STILL_S: Final = 0.5
"""The same right after work."""


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
    plan, before = client.plan(model), client.status().worker.peak_bytes
    found = ask(client, model, sample_text(order.words, 3), 1)
    view = _settled(client, before)
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


def _settled(client: "Client", before_bytes: int | None) -> StatusView:
    """The status once a new peak stands still, or once no beat can be left that tells of one."""
    asked_at = changed_at = time.monotonic()
    last = before_bytes

    def is_over(seen: StatusView) -> bool:
        nonlocal last, changed_at
        now = time.monotonic()
        if seen.worker.peak_bytes != last:
            last, changed_at = seen.worker.peak_bytes, now
        is_still = last != before_bytes and now - changed_at > _STILL_S
        return bool(last) and (is_still or now - asked_at > _BEAT_S)

    return wait_for(client, is_over, "a beat")
