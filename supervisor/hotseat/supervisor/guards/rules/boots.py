"""When a model that was seated as the machine went down is not seated by itself again. Pure."""

from typing import Final

from msgspec import Struct

BOOTS_TO_BAR: Final = 2


class BootSeat(Struct, frozen=True, kw_only=True):
    """Which model had the seat, or was about to, in which boot; empty when nobody had."""

    model: str = ""
    boot: str = ""


class Unclean(Struct, frozen=True, kw_only=True):
    """Boots in a row before which the machine went down with `model` seated."""

    model: str = ""
    count: int = 0


def seen_at_start(seated: BootSeat, known: Unclean, boot: str) -> Unclean:
    """What the daemon knows when it starts in `boot`.

    A daemon that was killed and starts again in the same boot tells nothing about the machine.
    """
    if not seated.model or not boot or seated.boot == boot:
        return known
    count = known.count + 1 if known.model == seated.model else 1
    return Unclean(model=seated.model, count=count)


def bars(unclean: Unclean) -> str | None:
    """The model that waits for a person, if there is one."""
    return unclean.model if unclean.count >= BOOTS_TO_BAR else None
