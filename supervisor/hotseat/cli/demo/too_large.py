"""A model that its memory does not hold whole: what the act promises, and its lines. Pure."""

from typing import Final

from msgspec import Struct

from hotseat.cli.terminal.output import size
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.views import PlanView

SHARE: Final = 0.5
"""Of the weights there is room for, about."""
WITHIN: Final = 0.25
"""How far from the forecast the speed may be."""


class TooLarge(Struct, frozen=True, kw_only=True):
    """What came of the act. Speeds are tokens a second."""

    whole_bytes: int
    limit_bytes: int
    held: StreamedView | None
    forecast: float
    measured: float
    whole_speed: float
    tokens: int
    is_same: bool
    """The answer is that of the model whole in memory, token by token."""

    @property
    def broken(self) -> list[str]:
        """Promises that did not hold."""
        found = []
        if self.held is None:
            found.append("the model was whole in memory: nothing was shown")
        if not self.is_same:
            found.append("the answer is not that of the whole model")
        if not 1 - WITHIN <= self.measured / max(self.forecast, 1e-9) <= 1 + WITHIN:
            found.append(
                f"{self.measured:.2g} tokens/s is not within {WITHIN:.0%} of the forecast of"
                f" {self.forecast:.2g}"
            )
        return found

    @property
    def lines(self) -> list[str]:
        """For people."""
        where = "" if self.held is None else f": {self.held.words}"
        read = size(0 if self.held is None else self.held.step_bytes)
        speed = f"{self.measured:.2f} tokens/s, forecast {self.forecast:.2f}"
        whose = "the same" if self.is_same else "others"
        return [
            f"{size(self.whole_bytes)} of weights under a limit of {size(self.limit_bytes)}{where}",
            f"{read} read a token: {speed}; whole in memory {self.whole_speed:.2f}",
            f"{self.tokens} tokens, {whose} as of the whole model",
        ]


def limit_for(whole: PlanView) -> int:
    """A limit that a plan of the whole model exceeds: room for `SHARE` of it and one session."""
    fixed = whole.overhead_bytes + whole.standby_bytes + whole.prefill_peak_bytes
    session = whole.sessions[0].bytes_per_session if whole.sessions else 0
    return fixed + session + int(whole.weights_bytes * SHARE)
