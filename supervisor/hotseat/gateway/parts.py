"""What no model here can read: images, documents. Pure.

It becomes a line of text where it stands, or an error; agents send their whole history again each
time, so that an error ends the conversation it is in.
"""

from typing import Final

from msgspec import Struct

from hotseat.gateway.asked import Asked
from hotseat.protocol.errors import HotseatError

MOST: Final = 64
"""Agents that are known to have been told."""


class PartNews(Struct, frozen=True):
    """What is to be told of an agent, once: the first such part of its request."""

    agent: str
    path: str
    kind: str


class PartWatch:
    """`refuses`: the parts are errors; else each agent is told of once."""

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses
        self._told: dict[str, None] = {}

    def see(self, agent: str, asked: Asked) -> PartNews | None:
        """Takes a request. Raises HotseatError (unsupported_content) if it may not have them."""
        if not asked.unread:
            return None
        path, kind = asked.unread[0].path, asked.unread[0].kind
        if self._refuses:
            raise HotseatError(
                "unsupported_content",
                f"{path}: {kind} cannot be read here, models take text only; send text, or set "
                'parts = "text" in [http] to have a line in its place',
                field=path,
                type=kind,
            )
        if agent in self._told:
            return None
        self._told[agent] = None
        if len(self._told) > MOST:
            del self._told[next(iter(self._told))]
        return PartNews(agent, path, kind)
