"""What changed between two requests of which the second was to begin as the first did. Pure.

For those who ask why their prompt was not read back. What is kept of a request is digests and a
number of tokens; a gateway that starts knows of none.
"""

import itertools
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from hotseat.gateway.conversations.value import SYSTEM_ROLES, Head, digest_of
from hotseat.protocol.messages import Message
from hotseat.protocol.replies import Done

Change = Literal["model", "system", "tools", "template", "messages", "unknown"]
"""What changed first. `unknown`: nobody here knows the history of one of the two."""
MOST: Final = 2048
"""Requests that are kept; each is some 400 bytes."""


class Shape(Struct, frozen=True, kw_only=True):
    """What a prompt begins with. `said` None: a session holds its history, and not the gateway.

    `said`: digest of the first `count` messages, without the system text before them.
    """

    model: str
    system: bytes
    tools: bytes
    template: bytes
    count: int = 0
    said: bytes | None = None


class Compared(Struct, frozen=True, kw_only=True):
    """`change` None: all the former prompt begins this one; `is_known` False: there is none.

    `tokens`: of the former prompt, all of which would have been read back but for the change.
    """

    is_known: bool = True
    change: Change | None = None
    tokens: int = 0


def shape_of(head: Head, messages: Sequence[Message], *, is_whole: bool = True) -> Shape:
    """The shape of a request. `is_whole` False: `messages` are only the end of its history."""
    leading = tuple(itertools.takewhile(lambda one: one.role in SYSTEM_ROLES, messages))
    said = messages[len(leading) :]
    return Shape(
        model=head.model,
        system=digest_of(*leading),
        tools=digest_of(*head.tools),
        template=digest_of(head.template_args),
        count=len(said),
        said=digest_of(*said) if is_whole else None,
    )


def first_change(
    before: Shape, now: Shape, messages: Sequence[Message], *, goes_on: bool = False
) -> Change | None:
    """What of `before` does not begin a request of shape `now` with these messages.

    `goes_on`: it names the former answer as the one before it.
    """
    kinds: tuple[Literal["model", "system", "tools", "template"], ...]
    kinds = ("model", "system", "tools", "template")
    for kind in kinds:
        if getattr(before, kind) != getattr(now, kind):
            return kind
    if goes_on:
        return None
    if before.said is None or now.said is None:
        return "unknown"
    said = messages[len(messages) - now.count :]
    return None if digest_of(*said[: before.count]) == before.said else "messages"


class Comparisons:
    """Shapes of requests by the ids of their answers, the newest ones; each owner's their own."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[tuple[str, str], tuple[Shape, int]] = {}

    def compare(
        self,
        head: Head,
        former_id: str,
        messages: Sequence[Message],
        *,
        is_whole: bool = True,
        goes_on: bool = False,
    ) -> Compared:
        """A request beside that of a former answer; without an id it is the first."""
        if not former_id:
            return Compared()
        found = self._kept.get((head.owner, former_id))
        if found is None:
            return Compared(is_known=False)
        before, tokens = found
        now = shape_of(head, messages, is_whole=is_whole)
        return Compared(change=first_change(before, now, messages, goes_on=goes_on), tokens=tokens)

    def keep(self, owner: str, answer_id: str, shape: Shape, done: Done) -> None:
        """An answer is there."""
        self._kept[owner, answer_id] = shape, done.usage.prompt_tokens
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
