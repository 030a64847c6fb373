"""Contexts that do not fit into memory: how long they may be, what of them is read, their files.

One at a time, alone in its lane. Runs on the engine's thread. Must not know how requests come and
go.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import Start
from hotseat.protocol.streamed_contexts import (
    LEAST_TOKENS_PER_S,
    ContextPlace,
    is_too_slow,
    longest_streamed,
    place_again,
    place_context,
    why_contexts_stay,
)
from hotseat.worker.batch.model_trial import ModelTrial
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.capture import RowView
from hotseat.worker.context.keeper import Keeper
from hotseat.worker.context.streamed import StreamedContext, leave_memory
from hotseat.worker.context.trace import Trace
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.kept_blocks import BlockLostError, KeptBlock, keep_block
from hotseat.worker.store.reader import BlockToRead
from hotseat.worker.streaming.kv_rooms import BlockReads


class NotWrittenError(Exception):
    """Blocks that were to leave memory could not be written; `code` is that of the writer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LongContexts:
    """Opens contexts that are read from files, writes what leaves memory, says what they take."""

    def __init__(
        self, seated: SeatedModel, budget: KvBudget, keeper: Keeper, trial: ModelTrial
    ) -> None:
        self._trial = trial
        self._record = seated.record
        self._limit_bytes = budget.limit_bytes
        self._keeper = keeper
        self._kv_dir = Path(seated.load.kv_dir)
        streaming = seated.streaming
        self._reads = BlockReads(None if streaming is None else streaming.readers.meter)
        self._reading = seated.load.contexts
        self._why = why_contexts_stay(seated.record)
        self.live_tokens = budget.fit_tokens(seated.record.context_tokens)
        """The longest context that fits into memory."""
        self._streamed_tokens = 0
        if self._reading is not None:
            limit = budget.limit_bytes
            self._streamed_tokens = longest_streamed(seated.record, limit, self._reading)

    @property
    def figures(self) -> tuple[int, float]:
        """Bytes that were read, and seconds in which anything was being read; from any thread.

        Weights that pass through are in them.
        """
        return self._reads.figures

    def fit_tokens(self, start: Start, needed: int) -> int:
        """The longest context of a request that needs so many tokens.

        What must not reach the disk stays in memory.
        """
        if not start.persist or needed < self.live_tokens:
            # It may outgrow memory all the same: then it is written, or ends.
            return max(self.live_tokens, self._streamed_tokens if start.persist else 0)
        if self._streamed_tokens > self.live_tokens:
            self._try_model()
        return max(self.live_tokens, self._streamed_tokens)

    def why_no_longer(self, start: Start, tokens: int) -> str:
        """What a refusal says of reading such a context from files; empty where that is off."""
        if self._reading is None:
            return ""
        if not start.persist:
            return "; it must not reach the disk, from where a longer one is read"
        if self._why:
            return f"; a longer one cannot be read as it is needed: {self._why}"
        place = place_context(self._record, tokens, self._limit_bytes)
        speed = None if place is None else place.tokens_per_s(self._reading)
        if speed is None or not is_too_slow(speed):
            return ""
        return (
            f"; read from the disk with every token it would give {speed:.2g} tokens a second,"
            f" {LEAST_TOKENS_PER_S:g} are the least"
        )

    def is_long(self, turn: Turn) -> bool:
        """True if its prompt does not fit into memory."""
        return turn.needed_tokens >= self.live_tokens

    def reserve_at_most(self, turn: Turn) -> int:
        """Tokens that a turn is admitted with room for, at most."""
        if not self.is_long(turn):
            return self.live_tokens
        return self.fit_tokens(turn.start, turn.needed_tokens)

    def held_bytes(self, turn: Turn) -> int:
        """What memory it takes for its reservation, some of its layers being read."""
        place = place_context(self._record, turn.reserved_tokens, self._limit_bytes)
        return self._limit_bytes if place is None else place.held_bytes

    def open(self, turn: Turn, room_bytes: int | None = None) -> bool:
        """Gives the turn its rooms, within the whole budget or less; False if that is too little.

        Whoever ends the turn closes them (`Turn.leave_files`).
        """
        room = self._limit_bytes if room_bytes is None else room_bytes
        place = place_context(self._record, turn.reserved_tokens, room)
        if place is None:
            return False
        turn.streamed_bytes = place.held_bytes
        turn.streamed = StreamedContext(
            self._record, place.streamed, turn.reserved_tokens, self._reads
        )
        return True

    def write(self, turn: Turn, trace: Trace, view: RowView) -> None:
        """Full blocks leave memory once they are durable. Raises NotWrittenError, BlockLostError.

        Runs in the stream that owns `view`; waits for the disk.
        """
        context = turn.streamed
        assert context is not None  # noqa: S101 - whoever calls has looked
        context.append(self._written(turn, trace, view), view.caches)
        trace.in_files = trace.stored_blocks

    def place_again(self, turn: Turn, room_bytes: int) -> bool:
        """Gives its reservation so much room and no more; False if all layers read do not suffice.

        Before its next step `settle` has those read that have no room any more.
        """
        place = self._place(turn, room_bytes)
        if place is not None:
            turn.streamed_bytes = place.held_bytes
        return place is not None

    def settle(self, turn: Turn, view: RowView) -> None:
        """Layers leave memory for which the turn has no room; between two steps, in their stream.

        All blocks that are full are written and opened then.
        """
        context, place = turn.streamed, self._place(turn, turn.streamed_bytes)
        assert context is not None and place is not None  # noqa: S101, PT018 - it was given this room
        more = [entry for entry in place.streamed if entry not in context.entries]
        if more:
            context.stream_more(more)
            leave_memory(self._record, _own(view), context, more)

    def take_over(self, turn: Turn, view: RowView, room_bytes: int) -> bool:
        """A context that outgrew memory, alone in its lane, is read from files from now on.

        False if it cannot be: then it ends as one does that has no room.
        """
        trace = turn.trace
        if self._streamed_tokens:
            self._try_model()
        is_allowed = turn.start.persist and turn.reserved_tokens <= self._streamed_tokens
        if trace is None or not is_allowed:
            return False
        if not self.open(turn, room_bytes):
            return False
        context = turn.streamed
        assert context is not None  # noqa: S101 - just opened
        try:
            context.append(self._written(turn, trace, view))
            leave_memory(self._record, _own(view), context, sorted(context.entries))
        except (NotWrittenError, BlockLostError):
            turn.leave_files()
            return False
        trace.in_files = trace.stored_blocks
        return True

    def open_blocks(self, context: StreamedContext, blocks: Sequence[BlockToRead]) -> None:
        """For a context that begins with these, which are stored. Raises BlockLostError."""
        context.append(self._opened(blocks))

    def close(self) -> None:
        """Ends the reading threads."""
        self._reads.close()

    def _place(self, turn: Turn, room_bytes: int) -> ContextPlace | None:
        context = turn.streamed
        assert context is not None  # noqa: S101 - whoever calls has looked
        return place_again(self._record, turn.reserved_tokens, context.entries, room_bytes)

    def _written(self, turn: Turn, trace: Trace, view: RowView) -> list[KeptBlock]:
        context = turn.streamed
        assert context is not None  # noqa: S101 - whoever calls has looked
        assert turn.start.persist  # noqa: S101 - what must not reach the disk stays in memory
        first = context.position // BLOCK_TOKENS
        failures = self._keeper.write_blocks(trace, view)
        if trace.stored_blocks < len(trace.chain):
            failure = failures[0] if failures else None
            raise NotWrittenError(
                failure.code if failure else "internal",
                f"the context does not fit into memory and cannot be written: "
                f"{failure.message if failure else 'a block of it is gone'}",
            )
        return self._opened([trace.stored_block(at) for at in range(first, trace.stored_blocks)])

    def _opened(self, blocks: Sequence[BlockToRead]) -> list[KeptBlock]:
        opened: list[KeptBlock] = []
        try:
            opened.extend(keep_block(self._kv_dir, self._record, block) for block in blocks)
        except BlockLostError:
            for kept in opened:
                kept.close()
            raise
        return opened

    def _try_model(self) -> None:
        """A model whose code uses contexts otherwise keeps them in memory."""
        self._why = self._trial.why_not()
        if self._why:
            self._streamed_tokens = 0


def _own(view: RowView) -> list[Any]:
    """The list of caches of a row that is alone."""
    assert isinstance(view.caches, list)  # noqa: S101 - a batch's would be another row's too
    return view.caches
