"""Heads that change from request to request: what stands behind the change is never reused. Pure.

An agent that puts a date, a counter or a random id into its system text pays for it with each
request. It is told once; its text stays as it is.
"""

from typing import Final

from msgspec import Struct

LEAST: Final = 256
"""Characters; about as many tokens as a block hold no head worth a word."""
LONGEST: Final = 32 * 1024
"""Characters of a system text that are looked at."""
MOST: Final = 64
"""Texts that are kept: 2 MiB of plain English at most."""
_TIMES: Final = 2
"""Changes in a row: another date or folder in a new conversation is one."""


class Unstable(Struct, frozen=True, kw_only=True):
    """`position`: characters of system text that the last two requests had in common.

    `given`, `before`: how many characters differ there, in this text and in the one before it.
    """

    agent: str
    position: int
    given: int
    before: int


class _Seen(Struct, frozen=True):
    system: str
    changes: int


class HeadWatch:
    """The last system text of each agent and set of tools."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bytes], _Seen] = {}
        self._told: dict[str, None] = {}

    def see(self, agent: str, tools: bytes, system: str) -> Unstable | None:
        """Takes a request; what is to be told of its agent, once. `tools` is a digest."""
        if len(system) < LEAST:
            return None
        system = system[:LONGEST]
        before = self._seen.pop((agent, tools), None)
        changes, position, rest = 0, 0, 0
        if before is not None and before.system != system:
            position = common_start(before.system, system)
            rest = common_start(before.system[position:][::-1], system[position:][::-1])
            if 2 * (position + rest) >= max(len(before.system), len(system)):
                changes = before.changes + 1
        self._seen[agent, tools] = _Seen(system, changes)
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]
        if before is None or changes < _TIMES or agent in self._told:
            return None
        self._told[agent] = None
        if len(self._told) > MOST:
            del self._told[next(iter(self._told))]
        alike = position + rest
        return Unstable(
            agent=agent,
            position=position,
            given=len(system) - alike,
            before=len(before.system) - alike,
        )


def common_start(left: str, right: str) -> int:
    """How many characters two texts begin with alike."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
