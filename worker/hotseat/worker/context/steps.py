"""In which shapes tokens were computed, so that lost ones can be computed the same way again.

Pure: knows token positions and counts, no arrays. A sum over the same numbers in another order
rounds differently, so tokens that are fed again are fed in the chunks of the first time.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from hotseat.protocol.chunks import chunk_at, next_change
from hotseat.protocol.limits import BLOCK_TOKENS

Shared = TypeVar("Shared")
HINT_VERSION: Final = 1
MAX_RUNS: Final = 1024
"""Runs of equal steps that are remembered; older ones would be computed in whole chunks."""


class RingMark(msgspec.Struct, frozen=True, array_like=True):
    """Slot of the oldest token in the rings of one window size; 0 is temporal order."""

    window: int
    at_boundary: int
    now: int


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """Steps from `boundary` to `position`, run-length coded (size, count).

    `boundary` is where a lost tail would be computed from: the last block's end, or with recurrent
    layers as far back as is known.
    """

    version: int
    boundary: int
    position: int
    steps: tuple[tuple[int, int], ...] = ()
    rings: tuple[RingMark, ...] = ()


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Hint)


def encode_hint(hint: Hint) -> bytes:
    """Opaque bytes for the link and for files."""
    return _ENCODER.encode(hint)


def decode_hint(data: bytes) -> Hint | None:
    """None for bytes of another version or for none at all: a hint may always be missing."""
    try:
        hint = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    sound = (
        hint.version == HINT_VERSION
        and 0 <= hint.boundary <= hint.position
        and all(size > 0 and count > 0 for size, count in hint.steps)
        and sum(size * count for size, count in hint.steps) == hint.position - hint.boundary
    )
    return hint if sound else None


def boundary_below(position: int) -> int:
    """The last block boundary at or before `position`."""
    return position - position % BLOCK_TOKENS


class StepLog:
    """Steps of one sequence since its last block boundary.

    With `since`, an earlier position, it goes back to there and keeps growing: recurrent layers
    are computed again from a snapshot, which may lie many blocks back.
    """

    def __init__(
        self,
        position: int,
        steps: Iterable[tuple[int, int]] = (),
        rings: dict[int, int] | None = None,
        since: int | None = None,
    ) -> None:
        self.position = position
        self.boundary = boundary_below(position) if since is None else since
        self._is_long = since is not None
        self._steps = list(steps)
        self._rings = dict(rings or {})
        if sum(size * count for size, count in self._steps) != position - self.boundary:
            rest = position - self.boundary
            self._steps = [(rest, 1)] if rest else []

    def advance(self, size: int) -> bool:
        """Note a step of `size` tokens; True if it completed blocks.

        A step that does ends on the boundary of the last of them: so segments are cut.
        """
        self.position += size
        ends_block = self.position % BLOCK_TOKENS == 0
        if ends_block and not self._is_long:
            self.boundary = self.position
            self._steps.clear()
            return True
        if self._steps and self._steps[-1][0] == size:
            self._steps[-1] = (size, self._steps[-1][1] + 1)
        else:
            self._steps.append((size, 1))
        if len(self._steps) > MAX_RUNS:
            first, count = self._steps.pop(0)
            self.boundary += first * count
        return ends_block

    def mark_rings(self, rings: dict[int, int]) -> None:
        """Note the ring slots (by window) at the boundary just reached."""
        self._rings = dict(rings)

    def hint(self, rings_now: dict[int, int]) -> Hint:
        """The record that travels with the session."""
        marks = tuple(
            RingMark(window, self._rings.get(window, 0), now)
            for window, now in sorted(rings_now.items())
        )
        return Hint(HINT_VERSION, self.boundary, self.position, tuple(self._steps), marks)

    def cut(self, position: int) -> "StepLog":
        """The log as if the sequence ended at `position`, an earlier one."""
        since = min(self.boundary, position) if self._is_long else None
        if position < self.boundary:
            return StepLog(position, since=since)
        steps = cut_steps(self._steps, position - self.boundary)
        return StepLog(position, steps, self._rings, since)


def cut_steps(steps: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The first `length` tokens of run-length coded steps; the last step may be cut."""
    kept: list[tuple[int, int]] = []
    for size, count in steps:
        if length <= 0:
            break
        whole = min(count, length // size)
        if whole:
            kept.append((size, whole))
            length -= whole * size
        if whole < count and length > 0:
            kept.append((length, 1))
            length = 0
    return kept


def rings_at(hint: Hint | None, position: int) -> dict[int, int]:
    """Ring slots by window that `hint` states for `position`; empty if it does not know."""
    if hint is None:
        return {}
    if position == hint.position:
        return {mark.window: mark.now for mark in hint.rings}
    if position == hint.boundary:
        return {mark.window: mark.at_boundary for mark in hint.rings}
    return {}


def plan_segments(
    start: int,
    total: int,
    hint: Hint | None,
    agree: int,
    chunk: int,
    fed_first: int = 0,
    snapshots: Iterable[int] = (),
    *,
    stores_scores: bool = False,
) -> list[int]:
    """Lengths in which tokens `start`..`total` are fed, `chunk` at most.

    Ends fall on multiples of the chunk, on the ends of the steps in `hint` as far as the first
    `agree` tokens are the ones it speaks of, on `fed_first`, where the same prompt was fed from
    before, on positions where `snapshots` are wanted, and before the last token, which starts the
    generation. A block with an end inside is fed apart from its neighbours. So no end depends on
    where the feeding began, if it began at an end: tokens that are lost are fed in the shapes of
    the first time.
    """
    last = total - 1
    cuts = {start, last, fed_first, *snapshots}
    if hint is not None:
        cuts.update(position for position in _step_ends(hint) if position <= agree)
    inside = {boundary_below(cut) for cut in cuts if cut % BLOCK_TOKENS}
    cuts.update(inside, (boundary + BLOCK_TOKENS for boundary in inside))
    cuts.update(_chunk_ends(start, last, chunk, stores_scores=stores_scores))
    ends = sorted({cut for cut in cuts if start < cut < last} | {last, total})
    ends = [end for end in ends if end > start]
    return [end - begin for begin, end in zip([start, *ends], ends, strict=False)]


def _step_ends(hint: Hint) -> Iterator[int]:
    position = hint.boundary
    yield position
    for size, count in hint.steps:
        for _ in range(count):
            position += size
            yield position


def _chunk_ends(start: int, end: int, chunk: int, *, stores_scores: bool) -> Iterator[int]:
    """Multiples of the chunk between `start` and `end`; one that grows shorter begins anew."""
    position = start
    while position < end:
        size = chunk_at(chunk, position, stores_scores=stores_scores)
        shorter = next_change(position, stores_scores=stores_scores)
        position += size - position % size
        if shorter is not None:
            position = min(position, shorter)
        yield position


def plan_completion(start: int, prompt: int, total: int) -> list[int]:
    """Lengths in which completion tokens from `start` on are fed again: one by one, as drawn."""
    return [1] * (total - max(start, prompt))


def common_prefix(left: list[Shared], right: list[Shared]) -> int:
    """How many leading tokens, or blocks, two sequences share; slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    if left[0] != right[0]:
        return 0
    while low + 1 < high:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
