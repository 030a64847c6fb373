"""Which contexts that became cold are computed again ahead of their next turn, and when. Pure."""

from collections.abc import Collection, Iterable
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import SessionName
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.catalogue.rows import SessionSummary

RECENT_S: Final = 7 * 24 * 3600.0
"""A session that nobody used for longer may never be used again."""
_HIDDEN: Final = "."


class Moment(Struct, frozen=True, kw_only=True):
    """What goes on beside contexts that are computed again. `idle_s`: nothing did for so long."""

    seated: bool
    idle_s: float = 0.0
    others: bool = False
    """A request that has not ended, or a swap or a release that was asked for."""
    memory_short: bool = False
    on_battery: bool = False


def gives_way(moment: Moment) -> bool:
    """True when no context is computed ahead: somebody or something else comes first."""
    return not moment.seated or moment.others or moment.memory_short or moment.on_battery


def may_begin(moment: Moment, quiet_s: float) -> bool:
    """True when one may be begun: between two turns of a conversation nobody is idle yet."""
    return not gives_way(moment) and moment.idle_s >= quiet_s


def is_worth_it(*, tokens: int, pinned: bool, used_at: float, now: float) -> bool:
    """True for a context that is computed ahead if it is cold. Less than a block is not stored."""
    return tokens >= BLOCK_TOKENS and (pinned or now - used_at <= RECENT_S)


def next_to_compute(
    sessions: Iterable[SessionSummary],
    record: ModelRecord,
    given_up: Collection[SessionName],
    now: float,
) -> SessionSummary | None:
    """Of the seated model's sessions the cold one to begin with; None if there is none.

    Pinned ones first, then those used last. Recurrent layers go on from snapshots, which belong to
    turns: what is computed without one would not be found.
    """
    if record.is_recurrent:
        return None
    worth = [
        one
        for one in sessions
        if one.model == record.name
        and one.tag != record.tag
        and one.persist
        and one.tokens < record.context_tokens
        and one.name not in given_up
        and not one.name.startswith(_HIDDEN)
        and is_worth_it(tokens=one.tokens, pinned=one.pinned, used_at=one.used_at, now=now)
    ]
    return max(worth, key=lambda one: (one.pinned, one.used_at, one.id), default=None)
