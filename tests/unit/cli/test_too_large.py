"""What `demo --too-large` promises, and the limit that it sets."""

import pytest
from msgspec.structs import replace

from hotseat.cli.demo.too_large import TooLarge, limit_for
from hotseat.protocol.limits import MIB
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.views import FitView, PlanView

HELD = StreamedView(mode="layers", held=7, of=16, resident_bytes=260 * MIB, step_bytes=290 * MIB)
KEPT = TooLarge(
    whole_bytes=520 * MIB,
    limit_bytes=690 * MIB,
    held=HELD,
    forecast=2.0,
    measured=1.6,
    whole_speed=9.0,
    tokens=32,
    is_same=True,
)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"measured": 1.5}, ""),
        ({"measured": 2.5}, ""),
        ({"measured": 1.49}, "not within 25% of the forecast"),
        ({"measured": 2.51}, "not within 25% of the forecast"),
        ({"forecast": 0.0}, "not within 25% of the forecast"),
        ({"is_same": False}, "not that of the whole model"),
        ({"held": None}, "whole in memory"),
    ],
)
def test_promises_of_the_act(changed, said):
    broken = replace(KEPT, **changed).broken
    assert len(broken) == bool(said)
    assert said in "".join(broken)


def test_lines_say_size_limit_speed_and_forecast():
    assert KEPT.lines == [
        "520.0 MiB of weights under a limit of 690.0 MiB: 7 of 16 layers in memory",
        "290.0 MiB read a token: 1.60 tokens/s, forecast 2.00; whole in memory 9.00",
        "32 tokens, the same as of the whole model",
    ]


def test_limit_has_room_for_half_of_the_weights_and_a_session():
    fit = FitView(context_tokens=4096, sessions=1, bytes_per_session=50)
    sizes = {"weights_bytes": 1000, "overhead_bytes": 300, "prefill_peak_bytes": 20}
    plan = PlanView(model="m", fits=True, sessions=(fit,), **sizes)
    assert limit_for(plan) == 300 + 20 + 50 + 500
