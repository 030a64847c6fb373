"""When a gateway is started again, and whether one that lives is taken over. Pure."""

from typing import Final

from msgspec import Struct

from hotseat.protocol.discovery import GatewayNote

FIRST_S: Final = 0.1
LONGEST_S: Final = 60.0
STEADY_S: Final = 10.0
"""One that listened so long has worked."""


class Attempts(Struct, frozen=True):
    """`early` ends in a row of gateways that had not worked; `wait_s` before the next start."""

    early: int = 0
    wait_s: float = 0.0


def after_end(before: Attempts, listened_s: float) -> Attempts:
    """The first start again comes at once, each further one after twice the wait."""
    early = 1 if listened_s >= STEADY_S else before.early + 1
    return Attempts(early, min(FIRST_S * 2 ** min(early - 1, 30), LONGEST_S))


def is_ours(note: GatewayNote, version: str, settings: str) -> bool:
    """Whether a gateway that lives on our port is as we would start it.

    One that a person started is left as that person wanted it.
    """
    return not note.watched or (note.version == version and note.settings == settings)
