"""Room in the budget for the rows of all lanes: what is reserved, how it grows, who gives way.

Runs on the engine's thread, between two steps. Must not know tokens or how a request ends.
"""

from collections.abc import Callable, Sequence

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.worker.batch.lane import Lane, LaneBrokenError
from hotseat.worker.batch.long_contexts import LongContexts
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.keeper import Keeper
from hotseat.worker.model.budget import KvBudget


class Reservations:
    """Of all lanes of a seating. `lose` takes the rows that turn out to be lost with a step."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        budget: KvBudget,
        keeper: Keeper,
        long: LongContexts,
        lose: Callable[[LaneBrokenError], None],
    ) -> None:
        self._lanes = lanes
        self._budget = budget
        self._keeper = keeper
        self._long = long
        self._lose = lose

    @property
    def streamed_bytes(self) -> int:
        """What contexts that are read from files take of memory."""
        return sum(turn.streamed_bytes for lane in self._lanes for turn in lane.turns)

    def fits(self, idle_bytes: int, extra: tuple[int, int] | None = None) -> bool:
        """True if all reservations, and `extra` (lane, tokens), stay within the budget."""
        rows = [lane.reservations() for lane in self._lanes]
        if extra is not None:
            rows[extra[0]].append(extra[1])
        taken = idle_bytes + self.streamed_bytes
        return self._budget.need_bytes(rows, taken) <= self._budget.limit_bytes

    def grow(self, lane: Lane, turn: Turn) -> bool:
        """Reserves one more block; False if the budget has none, idle sessions given up.

        A row that is alone in its lane is read from files where it cannot stay in memory; one
        beside a context that is read has more of that read.
        """
        turn.reserved_tokens += BLOCK_TOKENS
        has_room = turn.streamed is None or self._read_more(lane, turn)
        if turn.streamed is None and not self.fits(0):
            self._have_long_give_way()
        fits = has_room and self._keeper.make_room(self.fits)
        if fits or (has_room and self._keeper.is_making_room()):
            return True
        is_alone = lane.turns == [turn] and all(one.is_open for one in self._lanes)
        if turn.streamed is None and is_alone and self._read_more(lane, turn):
            return True
        turn.reserved_tokens -= BLOCK_TOKENS
        return False

    def _have_long_give_way(self) -> None:
        """A context that is read from files is placed anew in what the rows beside it leave."""
        for lane in self._lanes:
            for turn in [one for one in lane.turns if one.streamed is not None]:
                try:
                    # What its last step computes is there, or it is lost by itself.
                    lane.await_fed()
                    if turn.stage == "decoding":
                        lane.pending(turn)
                except LaneBrokenError as error:
                    self._lose(error)
                else:
                    self._read_more(lane, turn)

    def _read_more(self, lane: Lane, turn: Turn) -> bool:
        """Has as much of its context read as its reservation needs; False if that is too little.

        One that is not inserted yet is settled when it is.
        """
        others = [one.reservations() for one in self._lanes]
        if turn.streamed is None:
            others[self._lanes.index(lane)] = []
        room = self._budget.limit_bytes - self._budget.need_bytes(others, 0)
        with lane.stream():
            if turn.streamed is None:
                return self._long.take_over(turn, lane.view(turn), room)
            if not self._long.place_again(turn, room):
                return False
            if turn.stage in {"prefilling", "decoding"}:
                self._long.settle(turn, lane.view(turn))
            return True
