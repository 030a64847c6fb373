"""A lane: one batch of mlx-lm's BatchGenerator, left-padded to its longest row.

The only file that touches the generator's insides. Must not know text, sessions or disk.
"""
# ruff: noqa: SLF001 - captures and repairs need the batches, which have no public access

from typing import Any, Final

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch
from msgspec import Struct

from hotseat.worker.caches import cache_arrays, leaves, unservable_entry
from hotseat.worker.capture import RowView
from hotseat.worker.turns import Turn

MAX_ROWS: Final = 16
"""Rows that decode together in one lane."""
NO_LIMIT: Final = 2**31
"""The engine ends rows by itself: text, budgets and windows are its business."""


class LaneBrokenError(Exception):
    """The batch could not go on; `turns` are the rows that were lost with it."""

    def __init__(self, turns: list[Turn], reason: str) -> None:
        super().__init__(reason)
        self.turns = turns


class Fed(Struct, frozen=True):
    """`tokens` of the prompt went into KV; `is_last`: the prompt is complete."""

    turn: Turn
    tokens: list[int]
    is_last: bool


class Drawn(Struct, frozen=True):
    """A token was drawn. `logprobs` is `(vocab,)`."""

    turn: Turn
    token: int
    logprobs: Any


class Lane:
    """Rows that share a batch. `turns` also holds a row that is admitted but not inserted yet."""

    def __init__(self, model: Any, prefill_chunk: int) -> None:
        self._model = model
        self._chunk = prefill_chunk
        self.turns: list[Turn] = []
        self._rows: dict[int, Turn] = {}
        self._uids: dict[int, int] = {}
        self._generator = self._make_generator()

    @property
    def is_idle(self) -> bool:
        """True if there is nothing to step."""
        return not self._rows

    @property
    def is_prefilling(self) -> bool:
        """True while a row still feeds its prompt."""
        return any(turn.stage == "prefilling" for turn in self._rows.values())

    def reservations(self) -> list[int]:
        """Tokens reserved for each row."""
        return [turn.reserved_tokens for turn in self.turns]

    def insert(self, turn: Turn, caches: list[Any]) -> None:
        """The turn feeds the rest of its prompt, in its segments, from the next step on.

        Raises ValueError for caches that the generator would lose the row over.
        """
        kind = unservable_entry(caches)
        if kind is not None:
            raise ValueError(f"cache entry of kind {kind} cannot be batched")
        position = turn.fed_tokens
        segments = []
        for length in turn.segments:
            segments.append(turn.ids[position : position + length])
            position += length
        (uid,) = self._generator.insert_segments(
            [segments],
            max_tokens=[NO_LIMIT],
            caches=[caches],
            all_tokens=[turn.ids[: turn.fed_tokens]],
            samplers=[turn.sampler],
            logits_processors=[turn.processors],
        )
        self._rows[uid] = turn
        self._uids[id(turn)] = uid

    def next(self) -> tuple[list[Drawn], list[Fed]]:
        """One decode step of all rows and at most one chunk of one prompt.

        Raises LaneBrokenError with the rows that are gone; the lane can be used on.
        """
        before = len(self._generator._generation_batch)
        try:
            fed, drawn = self._generator.next()
        except Exception as error:
            raise self._recover(str(error) or type(error).__name__) from error
        result = (
            [Drawn(self._rows[one.uid], one.token, one.logprobs) for one in drawn],
            [self._as_fed(one) for one in fed],
        )
        if len(self._generator._generation_batch) > max(before, 1):
            self._settle()
        return result

    def pending(self, turn: Turn) -> Drawn:
        """The token that is drawn for a decoding row and not in KV yet; stays where it is."""
        batch = self._generator._generation_batch
        row = batch.uids.index(self._uids[id(turn)])
        with mx.stream(self._generator.stream):
            token = int(batch._next_tokens[row].item())
        return Drawn(turn, token, batch._next_logprobs[row])

    def view(self, turn: Turn) -> RowView:
        """Where the row's KV stands now."""
        uid = self._uids[id(turn)]
        for batch in (self._generator._generation_batch, self._generator._prompt_batch):
            if uid in batch.uids:
                return RowView(batch.prompt_cache, batch.uids.index(uid), turn.fed_tokens)
        raise KeyError(uid)

    def take(self, turn: Turn) -> list[Any]:
        """Removes a row; its caches if it has any tokens in KV. Never steps the others."""
        self.turns.remove(turn)
        uid = self._uids.pop(id(turn), None)
        if uid is None:
            return []
        del self._rows[uid]
        with mx.stream(self._generator.stream):
            wanted = turn.fed_tokens > 0
            taken = self._generator.remove([uid], return_prompt_caches=wanted)
            caches: list[Any] = taken[uid][0] if wanted else []
            self._settle(caches)
        return caches

    def stream(self) -> Any:
        """Context in which captures from this lane run."""
        return mx.stream(self._generator.stream)

    def close(self) -> None:
        """Gives the memory of all rows back."""
        self._generator.close()
        self._rows.clear()
        self._uids.clear()
        self.turns.clear()
        self._generator = None

    def _settle(self, taken: list[Any] | None = None) -> None:
        """Computes joined or parted caches layer by layer: together they would all be copied."""
        batch = self._generator._generation_batch.prompt_cache
        for entry in range(max(len(batch), len(taken or ()))):
            joined = batch[entry : entry + 1] + (taken or [])[entry : entry + 1]
            arrays = [array for cache in leaves(joined) for array in cache_arrays(cache)]
            mx.eval(arrays)

    def _as_fed(self, response: Any) -> Fed:
        turn = self._rows[response.uid]
        done, total = response.progress
        start = len(turn.ids) - total
        return Fed(turn, turn.ids[turn.fed_tokens : start + done], response.end_of_prompt)

    def _recover(self, reason: str) -> LaneBrokenError:
        """Gives up the row in prefill; all rows if the decode step itself did not complete."""
        generator = self._generator
        batch = generator._generation_batch
        decoded = {uid: len(held) for uid, held in zip(batch.uids, batch.tokens, strict=True)}
        lost = [uid for uid in self._rows if uid not in decoded]
        # A step that stopped half-way leaves some layers one token ahead of the others.
        is_whole = all(held > self._rows[uid].fed_tokens for uid, held in decoded.items())
        if lost and is_whole:
            generator._prompt_batch = PromptProcessingBatch.empty(
                self._model, generator.sampler, prefill_step_size=self._chunk
            )
            generator._currently_processing = []
            generator._unprocessed_sequences.clear()
        else:
            lost = list(self._rows)
            generator.close()
            self._generator = self._make_generator()
        turns = [self._rows.pop(uid) for uid in lost]
        for turn in turns:
            del self._uids[id(turn)]
            self.turns.remove(turn)
        return LaneBrokenError(turns, reason)

    def drawn_unseen(self) -> list[Drawn]:
        """Tokens that a broken step had fed before it failed."""
        batch = self._generator._generation_batch
        unseen = []
        for row, uid in enumerate(batch.uids):
            turn = self._rows[uid]
            if len(batch.tokens[row]) > turn.fed_tokens:
                logprobs = batch._current_logprobs[row]
                unseen.append(Drawn(turn, batch.tokens[row][-1], logprobs))
        return unseen

    def _make_generator(self) -> Any:
        # One prompt at a time: the shapes of its prefill then never depend on another prompt.
        return BatchGenerator(
            self._model,
            max_tokens=NO_LIMIT,
            completion_batch_size=MAX_ROWS,
            prefill_batch_size=1,
            prefill_step_size=self._chunk,
        )
