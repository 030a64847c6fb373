"""How many bytes of KV a set of rows takes, and which lane a row should join. Pure.

Batches are left-padded to their longest row, so a row's cost depends on its neighbours.
"""

from collections.abc import Sequence

from hotseat.protocol.live_contexts import cache_bytes, longest_alone
from hotseat.protocol.model import ModelRecord

RESERVE_TOKENS = 1024
"""A request is admitted with room for this many tokens beyond its prompt, then grows by blocks."""
JOIN_FACTOR = 2
"""A row joins a lane if that costs at most this many times what it costs alone."""


class KvBudget:
    """Byte arithmetic of one model. `lanes` are the token counts of their rows.

    `lane_reads_bytes` is what each lane reads in every step whatever its rows are: the weights,
    on a machine whose memory is what bounds a step; 0 where computing does.
    """

    def __init__(self, record: ModelRecord, limit_bytes: int, lane_reads_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self._lane_reads_bytes = lane_reads_bytes
        self._record = record

    def lane_bytes(self, rows: Sequence[int]) -> int:
        """KV of a batch of these rows."""
        if not rows:
            return 0
        return len(rows) * sum(self._caches(max(rows)))

    def need_bytes(self, lanes: Sequence[Sequence[int]], idle_bytes: int) -> int:
        """What rows and idle sessions need at the worst moment.

        Beside the KV itself: a copy of one layer of the largest lane (growth is a copy, and so is
        a row that joins or leaves) and a copy of the longest row (restore, extract).
        """
        held = sum(self.lane_bytes(rows) for rows in lanes) + idle_bytes
        growth = max((self._largest_layer(rows) for rows in lanes if rows), default=0)
        row_copy = max((self.lane_bytes([max(rows)]) for rows in lanes if rows), default=0)
        return held + growth + row_copy

    def fit_tokens(self, ceiling: int) -> int:
        """The longest sequence, up to `ceiling` tokens, that fits alone."""
        return longest_alone(self._record, self.limit_bytes, ceiling)

    def lane_order(self, lanes: Sequence[Sequence[int]], tokens: int) -> list[int]:
        """Lanes by preference for a row of `tokens`.

        First those it does not blow up, then empty ones, then the rest, each the cheapest first.
        Padding that reads less in a step than a lane of its own would read again is not much.
        """
        alone = self.lane_bytes([tokens])

        def rank(index: int) -> tuple[int, int, int]:
            rows = lanes[index]
            added = self.lane_bytes([*rows, tokens]) - self.lane_bytes(rows)
            padding = added - alone
            if rows and (padding <= alone * (JOIN_FACTOR - 1) or padding <= self._lane_reads_bytes):
                return (0, added, index)
            return (2, added, index) if rows else (1, added, index)

        return sorted(range(len(lanes)), key=rank)

    def _caches(self, tokens: int) -> list[int]:
        return [cache_bytes(self._record, layer, tokens) for layer in self._record.layers]

    def _largest_layer(self, rows: Sequence[int]) -> int:
        return len(rows) * max(self._caches(max(rows)))
