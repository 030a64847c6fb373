"""How many bytes of KV a set of rows takes, and which lane a row should join. Pure.

Batches are left-padded to their longest row, so a row's cost depends on its neighbours.
"""

from collections.abc import Sequence

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import STATES_HELD, LayerSpec, ModelRecord

RESERVE_TOKENS = 1024
"""A request is admitted with room for this many tokens beyond its prompt, then grows by blocks."""
JOIN_FACTOR = 2
"""A row joins a lane if that costs at most this many times what it costs alone."""


def padded(tokens: int) -> int:
    """`tokens` rounded up to whole blocks: caches grow by 256."""
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


class KvBudget:
    """Byte arithmetic of one model. `lanes` are the token counts of their rows.

    `lane_reads_bytes` is what each lane reads in every step whatever its rows are: the weights,
    on a machine whose memory is what bounds a step; 0 where computing does.
    """

    def __init__(self, record: ModelRecord, limit_bytes: int, lane_reads_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self._lane_reads_bytes = lane_reads_bytes
        self._layers = record.layers
        self._number_bytes = record.dtype_bytes
        self._chunk = max(record.prefill_chunk, BLOCK_TOKENS)

    def lane_bytes(self, rows: Sequence[int]) -> int:
        """KV of a batch of these rows."""
        if not rows:
            return 0
        longest = max(rows)
        return len(rows) * sum(self._layer_bytes(layer, longest) for layer in self._layers)

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
        low, high = 0, ceiling
        while low < high:
            middle = (low + high + 1) // 2
            if self.need_bytes([[middle]], 0) <= self.limit_bytes:
                low = middle
            else:
                high = middle - 1
        return low

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

    def _layer_bytes(self, layer: LayerSpec, tokens: int) -> int:
        if layer.kind == "state":
            return sum(state.size_bytes for state in layer.states) * STATES_HELD
        held = padded(tokens)
        if layer.kind == "window":
            # After a chunk a window layer holds it and window - 1 tokens until the next step.
            held = min(held, layer.window + self._chunk)
        return held * layer.kv_heads * (layer.k_dim + layer.v_dim) * self._number_bytes

    def _largest_layer(self, rows: Sequence[int]) -> int:
        longest = max(rows)
        return len(rows) * max(self._layer_bytes(layer, longest) for layer in self._layers)
