"""Which sessions have been quiet for so long that their last tokens go to disk. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

from hotseat.protocol.ids import ModelName, SessionName

SessionKey = tuple[ModelName, SessionName]
AT_ONCE: Final = 1
"""While requests run, sessions go one by one: each costs the running ones a moment."""


def sessions_to_checkpoint(
    ended_at: Mapping[SessionKey, float],
    busy: Collection[SessionKey],
    *,
    seated: ModelName,
    is_running: bool,
    now: float,
    quiet_s: float,
) -> tuple[SessionKey, ...]:
    """Sessions of the seated model that no request uses, the longest quiet first."""
    due = sorted(
        (key for key, at in ended_at.items() if key[0] == seated and now - at >= quiet_s),
        key=lambda key: ended_at[key],
    )
    quiet = [key for key in due if key not in busy]
    return tuple(quiet[:AT_ONCE] if is_running else quiet)
