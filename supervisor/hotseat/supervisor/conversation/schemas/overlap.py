"""Whether patterns meet: in a text, or each other. Without backtracking, so that it ends. Pure.

A pattern becomes an automaton; its states after a text are a set. Must not know schemas.
"""

from collections.abc import Iterator
from typing import Final

from hotseat.supervisor.conversation.schemas.patterns import (
    LAST_CODE,
    Chars,
    Choice,
    Edge,
    Node,
    Ranges,
    Repeat,
    Row,
)

MAX_STEPS: Final = 200_000
"""Of a comparison of two patterns; then it counts as undecided."""


class Automaton:
    """Finds a pattern anywhere in a text, as JSON Schema does."""

    def __init__(self, node: Node) -> None:
        self._steps: list[list[tuple[Ranges, int]]] = []
        self._free: list[list[int]] = []
        self._edges: list[list[tuple[bool, int]]] = []
        self._first, self._last = self._state(), self._state()
        self._build(node, self._first, self._last)

    def matches(self, text: str) -> bool:
        """True if the pattern is somewhere in the text."""
        states = self.begin()
        for char in text:
            states = self.step(states, ord(char))
        return self.is_match(states)

    def begin(self) -> frozenset[int]:
        """States before the first character."""
        return self._closed({self._first}, at_start=True)

    def step(self, states: frozenset[int], code: int) -> frozenset[int]:
        """States after one more character. Once found, found for good: the last state stays."""
        found = {self._last} if self._last in states else set[int]()
        for state in states:
            for ranges, target in self._steps[state]:
                if any(low <= code <= high for low, high in ranges):
                    found.add(target)
        return self._closed(found | {self._first}, at_start=False)

    def is_match(self, states: frozenset[int]) -> bool:
        """True if a text that ends here has the pattern in it."""
        return self._last in self._closed(set(states), at_start=False, at_end=True)

    def ranges(self, states: frozenset[int]) -> Iterator[tuple[int, int]]:
        """What of the characters makes a difference in these states."""
        for state in states:
            for ranges, _ in self._steps[state]:
                yield from ranges

    def _closed(self, states: set[int], *, at_start: bool, at_end: bool = False) -> frozenset[int]:
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            passed = [t for is_start, t in self._edges[state] if (at_start if is_start else at_end)]
            for target in (*self._free[state], *passed):
                if target not in states:
                    states.add(target)
                    waiting.append(target)
        return frozenset(states)

    def _state(self) -> int:
        self._steps.append([])
        self._free.append([])
        self._edges.append([])
        return len(self._steps) - 1

    def _build(self, node: Node, start: int, end: int) -> None:
        match node:
            case Chars(ranges=ranges):
                self._steps[start].append((ranges, end))
            case Edge(is_start=is_start):
                self._edges[start].append((is_start, end))
            case Choice(nodes=nodes):
                for one in nodes:
                    self._build(one, start, end)
            case Row(nodes=nodes):
                for one in nodes:
                    start = self._then(one, start)
                self._free[start].append(end)
            case Repeat():
                self._repeat(node, start, end)

    def _repeat(self, node: Repeat, start: int, end: int) -> None:
        for _ in range(node.least):
            start = self._then(node.node, start)
        if node.most is None:
            around = self._state()
            self._free[start].append(around)
            self._build(node.node, around, around)
            self._free[around].append(end)
            return
        for _ in range(node.most - node.least):
            self._free[start].append(end)
            start = self._then(node.node, start)
        self._free[start].append(end)

    def _then(self, node: Node, start: int) -> int:
        after = self._state()
        self._build(node, start, after)
        return after


def can_overlap(one: Automaton, other: Automaton) -> bool:
    """True if some text has both patterns in it, or if that takes too long to say."""
    begin = (one.begin(), other.begin())
    seen, waiting, steps = {begin}, [begin], 0
    while waiting:
        left, right = waiting.pop()
        if one.is_match(left) and other.is_match(right):
            return True
        ends = {0, *(n for pair in (*one.ranges(left), *other.ranges(right)) for n in pair)}
        for code in {*ends, *(min(end + 1, LAST_CODE) for end in ends)}:
            steps += len(left) + len(right)
            if steps > MAX_STEPS:
                return True
            after = (one.step(left, code), other.step(right, code))
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False
