"""When the machine has to stay awake for work. Pure; must not know how that is done.

Only idle sleep is meant: the display may sleep, and a closed lid is not argued with.
"""

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from hotseat.supervisor.seat.rules.states import SETTLED, Phase
from hotseat.supervisor.settings.values import PowerSettings

LINGER_S: Final = 5.0
"""An agent that runs a tool is soon back: a hold for each of its turns would only be noise."""
BATTERY_S: Final = 5.0
"""How old a reading of the power source may be."""
RETRY_S: Final = 60.0
"""Between two attempts when the system refused."""
Reason = Literal["request", "swap"]


class Vigil(Struct, frozen=True, kw_only=True):
    """What the machine is kept awake for, if it is. Times are monotonic seconds."""

    reason: Reason | None = None
    needed_at: float = float("-inf")
    """When work was last seen."""


def reason_to_stay_awake(running: int, phase: Phase) -> Reason | None:
    """A swap under way, giving the seat up included, or a request on the worker."""
    if phase not in SETTLED:
        return "swap"
    return "request" if running else None


def is_allowed(settings: PowerSettings, *, on_battery: bool) -> bool:
    """Whether the settings want the machine kept awake, on the power it has."""
    return settings.prevent_sleep and (settings.on_battery or not on_battery)


def next_vigil(vigil: Vigil, need: Reason | None, *, allowed: bool, now: float) -> Vigil:
    """Begins with work; ends `LINGER_S` after it, or at once when it is not allowed any more."""
    if not allowed:
        return Vigil()
    if need is not None:
        return Vigil(reason=need, needed_at=now)
    if now - vigil.needed_at >= LINGER_S:
        return replace(vigil, reason=None)
    return vigil
