"""Which conversations go: those that nobody went on with for long, and the oldest of too many.

A session that a client named itself is its own business and stays.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from hotseat.client import AsyncClient
from hotseat.gateway.conversations.value import is_kept_briefly, is_made_here
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import SessionView

DAYS: Final = 24 * 3600.0
BRIEF_S: Final = 3600.0
"""As long as the daemon keeps the replies of any request."""
MOST: Final = 800
"""Fewer than the daemon lists at once, so that what is too much can be seen."""
TIDY_S: Final = 900.0


def sessions_to_remove(
    views: Sequence[SessionView], now: float, keep_s: float, most: int = MOST
) -> list[SessionView]:
    """Sessions made here that go, oldest last. `now` is Unix time; pinned ones stay."""
    ours = [view for view in views if is_made_here(view.session)]
    ours.sort(key=lambda view: -view.used_at)
    return [
        view
        for number, view in enumerate(ours)
        if (
            number >= most
            or now - view.used_at > (BRIEF_S if is_kept_briefly(view.session) else keep_s)
        )
        and not view.pinned
        and view.state != "running"
    ]


async def tidy(client: AsyncClient, now: float, keep_s: float) -> None:
    """Removes what goes. One that is in use stays until the next time."""
    for view in sessions_to_remove(await client.sessions(), now, keep_s):
        with contextlib.suppress(HotseatError):
            await client.delete_session(view.model, view.session)


async def tidy_for_ever(client: AsyncClient, clock: Callable[[], float], keep_s: float) -> None:
    """Tidies now and then while there is a daemon."""
    while True:
        await asyncio.sleep(TIDY_S)
        with contextlib.suppress(HotseatError):
            await tidy(client, clock(), keep_s)
