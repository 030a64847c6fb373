"""A lane: rows that decode together, left-padded to the longest, and those that come to it.

With `rows` the only file that touches the insides of mlx-lm's batches. Must not know
text, sessions or disk.
"""

from typing import Any, Final

import mlx.core as mx
from mlx_lm.generate import generation_stream
from mlx_lm.models.cache import RotatingKVCache
from msgspec import Struct

from hotseat.protocol import failpoints
from hotseat.worker.batch.rows import Arrival, DecodingRows
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.capture import RowView
from hotseat.worker.dying import pass_on_loss
from hotseat.worker.model.caches import cache_arrays, leaves, tighten, unservable_entry
from hotseat.worker.model.metal import clear_cache

MAX_ROWS: Final = 16
"""Rows that decode together in one lane."""
_INSIDE: Final = frozenset({"prefilling", "decoding"})
_STEPS_KEPT: Final = 512
_FED_KEPT: Final = 2048
"""Decode steps and prompt tokens after which the allocator's cache is given up, as mlx-lm
does; what it may hold until then is limited, and planned for."""


class LaneBrokenError(Exception):
    """The model could not go on; `turns` are the rows that were lost with it."""

    def __init__(self, turns: list[Turn], reason: str) -> None:
        super().__init__(reason)
        self.turns = turns


class Fed(Struct, frozen=True):
    """`tokens` of the prompt went into KV; `is_last`: the prompt is complete."""

    turn: Turn
    tokens: list[int]
    is_last: bool


class Drawn(Struct, frozen=True):
    """A token was drawn. `logprobs` is `(vocab,)`, None if the turn does not ask for any."""

    turn: Turn
    token: int
    logprobs: Any


class _Feeding:
    """A row that feeds its prompt, all but the last token, alone."""

    def __init__(self, turn: Turn, caches: list[Any]) -> None:
        self.turn = turn
        self.caches = caches
        self._segments: list[list[int]] = []
        position = turn.fed_tokens
        for length in turn.segments():
            self._segments.append(turn.ids[position : position + length])
            position += length

    @property
    def is_ready(self) -> bool:
        """True when only the last token is left, with which it starts to decode."""
        return not self.next_tokens

    @property
    def next_tokens(self) -> int:
        """Length of the segment to be fed next."""
        is_last = len(self._segments) == 1 and len(self._segments[0]) == 1
        return 0 if is_last else len(self._segments[0])

    @property
    def last_token(self) -> int:
        """What is left of a ready one."""
        return self._segments[0][0]

    @property
    def arrival(self) -> Arrival:
        """What joins the rows that decode."""
        return Arrival(self.turn, self.caches, self.last_token)

    def feed(self, model: Any, limit: int) -> list[int]:
        """Feeds the next tokens of the segment, `limit` at most; nothing is computed yet."""
        fed, rest = self._segments[0][:limit], self._segments[0][limit:]
        self._segments[:1] = [rest] if rest else []
        if not self._segments:
            self._segments, fed = [fed[-1:]], fed[:-1]
        model(mx.array([fed]), cache=self.caches)
        return fed

    def compute(self) -> mx.array:
        """Begins to compute what was fed last; a number that is there when all of it is.

        It holds no cache's array, which would then be copied with the next token.
        """
        arrays = [array for cache in leaves(self.caches) for array in cache_arrays(cache)]
        mark = arrays[-1][(slice(1),) * arrays[-1].ndim] + 0
        mx.async_eval(arrays, mark)  # type: ignore[no-untyped-call]
        return mark


class _Underway(Struct, frozen=True):
    """The chunk that is being computed; `mark` is there when it is."""

    turn: Turn
    mark: mx.array


class Lane:
    """Rows that share a batch. `turns` also holds a row that is admitted but not inserted yet."""

    def __init__(self, model: Any, prefill_chunk: int) -> None:
        self._model = model
        self._chunk = prefill_chunk
        self.turns: list[Turn] = []
        self._rows = DecodingRows.none(model)
        self._feeding: list[_Feeding] = []
        self._underway: _Underway | None = None
        self._steps = 0
        self._fed = 0

    @property
    def next_feed_tokens(self) -> int:
        """Prompt tokens that `feed` would feed; 0 if there is none."""
        if not self._feeding:
            return 0
        waiting = (one.next_tokens for one in self._feeding if not one.is_ready)
        return min(next(waiting, 0), self._chunk)

    @property
    def is_open(self) -> bool:
        """False while its row is one whose context is read from files: that one stays alone."""
        return all(turn.streamed is None for turn in self.turns)

    @property
    def is_decoding(self) -> bool:
        """True while rows decode."""
        return bool(self._rows.uids)

    @property
    def has_ready(self) -> bool:
        """True if a row decodes from the next step on."""
        return any(one.is_ready for one in self._feeding)

    def is_ready(self, turn: Turn) -> bool:
        """True if `turn` decodes from the next step on."""
        return any(one.turn is turn and one.is_ready for one in self._feeding)

    @property
    def held_bytes(self) -> int:
        """KV of all rows as the arrays have it."""
        caches = list(self._rows.prompt_cache)
        for feeding in self._feeding:
            caches += feeding.caches
        return sum(int(cache.nbytes) for cache in caches)

    def reservations(self) -> list[int]:
        """Tokens reserved for each row, all of whose context is in memory."""
        return [turn.reserved_tokens for turn in self.turns if turn.streamed is None]

    def insert(self, turn: Turn, caches: list[Any]) -> None:
        """The turn feeds the rest of its prompt, in its segments, from the next step on.

        Raises ValueError for caches that cannot be batched.
        """
        kind = unservable_entry(caches)
        if kind is not None:
            raise ValueError(f"cache entry of kind {kind} cannot be batched")
        self._feeding.append(_Feeding(turn, caches))

    def decode(self) -> tuple[list[Drawn], list[Fed]]:
        """One decode step of all rows; rows whose prompt is fed take part from now on.

        Raises LaneBrokenError with the rows that are gone; the lane can be used on.
        """
        rows = self._rows
        drawn: list[Drawn] = []
        fed: list[Fed] = []
        ready = [one for one in self._feeding if one.is_ready]
        if not (rows.uids or ready):
            return drawn, fed
        if self._underway is not None and any(one.turn is self._underway.turn for one in ready):
            self.await_fed()  # a chunk that failed must not take neighbours along
        # A ring is joined behind its prompt's last token, when it has its final form.
        rings = [one for one in ready if _has_ring(one)]
        try:
            if failpoints.ARMED:
                failpoints.reach("worker.decodes")
            with self.stream():
                joined = self._join([one for one in ready if one not in rings])
                if rows.uids:
                    tokens, logprobs = rows.step()
                    for turn, token, scores in zip(list(rows.uids), tokens, logprobs, strict=True):
                        if turn in joined:
                            fed.append(Fed(turn, [token], is_last=True))
                        else:
                            drawn.append(Drawn(turn, token, scores))
                fed += self._join_rings(rings)
                self._steps += 1
                if self._steps % _STEPS_KEPT == 0:
                    clear_cache()
        except Exception as error:
            pass_on_loss(error)
            raise self._lose_rows(str(error) or type(error).__name__) from error
        return drawn, fed

    def feed(self) -> Fed:
        """Feeds the `next_feed_tokens` of one prompt, alone: no shape depends on another row.

        Returns while they are computed, and not before the chunk fed last is: one is under way at a
        time. Raises LaneBrokenError with the row whose chunk failed.
        """
        feeding = next(one for one in self._feeding if not one.is_ready)
        turn = feeding.turn
        if self._underway is not None and self._underway.turn is not turn:
            self.await_fed()
        try:
            with self.stream():
                tokens = feeding.feed(self._model, self._chunk)
                # What is to be done next is known before the wait for what was to be done before.
                self.await_fed()
                self._fed += len(tokens)
                if self._fed >= _FED_KEPT:
                    self._fed = 0
                    clear_cache()
                self._underway = _Underway(turn, feeding.compute())
        except LaneBrokenError:
            raise
        except Exception as error:
            raise self._lose_fed(turn, error) from error
        return Fed(turn, tokens, is_last=False)

    def await_fed(self) -> None:
        """Waits until the chunk fed last is computed. Raises LaneBrokenError with its row."""
        underway, self._underway = self._underway, None
        if underway is None:
            return
        try:
            _wait(underway.mark)
        except Exception as error:
            raise self._lose_fed(underway.turn, error) from error

    def pending(self, turn: Turn) -> Drawn:
        """The token that is drawn for a decoding row and not in KV yet; stays where it is.

        Raises LaneBrokenError if it could not be computed.
        """
        try:
            with self.stream():
                return Drawn(turn, *self._rows.pending(turn))
        except Exception as error:
            pass_on_loss(error)
            raise self._lose_rows(str(error) or type(error).__name__) from error

    def view(self, turn: Turn) -> RowView:
        """Where the row's KV stands now."""
        for feeding in self._feeding:
            if feeding.turn is turn:
                return RowView(feeding.caches, 0, turn.fed_tokens)
        return RowView(self._rows.prompt_cache, self._rows.uids.index(turn), turn.fed_tokens)

    def take(self, turn: Turn) -> list[Any]:
        """Removes a row; its caches if it has any tokens in KV. Never steps the others."""
        self.turns.remove(turn)
        if self._underway is not None and self._underway.turn is turn:
            self._underway = None
        is_wanted = turn.fed_tokens > 0
        with self.stream():
            for feeding in self._feeding:
                if feeding.turn is turn:
                    self._feeding.remove(feeding)
                    return self._parted(feeding.caches if is_wanted else [])
            if turn not in self._rows.uids:
                return []
            return self._parted(self._rows.remove(turn, wanted=is_wanted))

    def stream(self) -> Any:
        """Context in which captures from this lane run."""
        return mx.stream(generation_stream)

    def close(self) -> None:
        """Gives the memory of all rows back."""
        self._rows = DecodingRows.none(self._model)
        self._feeding.clear()
        self._underway = None
        self.turns.clear()

    def _join(self, ready: list[_Feeding]) -> list[Turn]:
        for feeding in ready:
            self._feeding.remove(feeding)
        self._rows.join([feeding.arrival for feeding in ready])
        if ready and len(self._rows.uids) > 1:
            self._rows.settle()
        return [feeding.turn for feeding in ready]

    def _join_rings(self, ready: list[_Feeding]) -> list[Fed]:
        fed = []
        for feeding in ready:
            self._feeding.remove(feeding)
            begun = DecodingRows.none(self._model)
            begun.join([feeding.arrival])
            begun.step()
            self._rows.take_over(begun)
            if len(self._rows.uids) > 1:
                self._rows.settle()
            fed.append(Fed(feeding.turn, [feeding.last_token], is_last=True))
        return fed

    def _parted(self, caches: list[Any]) -> list[Any]:
        tighten(caches)
        self._rows.settle(caches)
        return caches

    def _lose_fed(self, turn: Turn, error: Exception) -> LaneBrokenError:
        pass_on_loss(error)
        self._feeding = [feeding for feeding in self._feeding if feeding.turn is not turn]
        self.turns.remove(turn)
        return LaneBrokenError([turn], str(error) or type(error).__name__)

    def _lose_rows(self, reason: str) -> LaneBrokenError:
        """A step that stopped half-way leaves some layers one token ahead of the others."""
        kept = [feeding.turn for feeding in self._feeding]
        lost = [turn for turn in self.turns if turn.stage in _INSIDE and turn not in kept]
        self._rows = DecodingRows.none(self._model)
        for turn in lost:
            self.turns.remove(turn)
        return LaneBrokenError(lost, reason)


def _wait(mark: mx.array) -> None:
    mx.eval(mark)


def _has_ring(feeding: _Feeding) -> bool:
    return any(isinstance(cache, RotatingKVCache) for cache in leaves(feeding.caches))
