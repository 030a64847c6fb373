"""Which requests nobody goes on with: titles, summaries, batches. Pure.

A session costs a row and a tail on the SSD. Who began many conversations in a row and went on with
none has no use for them: such a request shares prefixes as any does and is no session. If the same
agent goes on with others, it is beside them and takes the seat from nobody; a batch has no others.
"""

from typing import Final

ENOUGH: Final = 100
"""Conversations begun in a row; a tail is at most 255 tokens, so some GB of a large model."""
MOST: Final = 1024
"""Kinds that are known; the one seen longest ago is forgotten, and counts from 0 again."""


class Habits:
    """How often each kind of conversation was begun since one of it went on.

    A kind is an agent with the text that stands before the first user message.
    """

    def __init__(self, enough: int = ENOUGH, most: int = MOST) -> None:
        self._goes_on: dict[str, None] = {}
        self._enough = enough
        self._most = most
        self._begun: dict[bytes, int] = {}

    def begin(self, kind: bytes) -> bool:
        """A conversation begins; True if somebody may go on with it."""
        begun = self._begun.pop(kind, 0) + 1
        self._begun[kind] = begun
        if len(self._begun) > self._most:
            del self._begun[next(iter(self._begun))]
        return begun <= self._enough

    def go_on(self, kind: bytes, product: str) -> None:
        """Somebody did."""
        self._begun.pop(kind, None)
        self._goes_on.pop(product, None)
        self._goes_on[product] = None
        if len(self._goes_on) > self._most:
            del self._goes_on[next(iter(self._goes_on))]

    def has_others(self, product: str) -> bool:
        """Whether this agent goes on with conversations of another kind."""
        return product in self._goes_on
