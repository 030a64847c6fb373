"""The stream of one generation: no token lost, none twice, whatever the connection does. Pure.

Offsets count completion tokens. The daemon may merge output, and after a re-attach it may send
again what was received before, from any earlier token on; this machine turns that into one
gapless sequence of chunks.
"""

import contextlib
from collections.abc import Iterable

from msgspec.structs import replace

from hotseat.client.exchange import NOTHING_TO_SEND, Exchange, Window
from hotseat.protocol.credit import chunk_cost
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import Attach, ClientMessage, Generate
from hotseat.protocol.parts import (
    collected_of,
    join_parts,
    missing_parts,
    split_parts,
    units_of,
)
from hotseat.protocol.replies import (
    Accepted,
    Chunk,
    ChunkPart,
    DaemonMessage,
    Done,
    ErrorBody,
    Progress,
)

StreamEvent = Accepted | Progress | Chunk


class Completion(Exchange[StreamEvent, Done]):
    """Accepted, progress and chunks, then Done; opened by `generate` or `attach`.

    Attributes:
        accepted: the daemon's promise to do the work, once it came.
        offset_tokens: completion tokens received so far, the start of an attach included.
    """

    def __init__(
        self, request_id: RequestId, opening: Generate | Attach, patience_s: float
    ) -> None:
        super().__init__(request_id, opening, patience_s)
        self.accepted: Accepted | None = None
        self._start = opening.offset_tokens if isinstance(opening, Attach) else 0
        self.offset_tokens = self._start
        self._window = Window(opening.credit_bytes or DEFAULT_CREDIT_BYTES)
        self._parts: list[ChunkPart] = []
        self._units = 0
        self._units_at = {self._start: 0}
        """Extent of the output received before a chunk, by the offset of the chunk."""
        self._seq = -1
        self._held: list[Chunk] = []
        self._is_rejoining = False
        self._is_repairing = False

    def reopening(self) -> ClientMessage:
        """Attaches behind the last token received; the daemon may know the request or not."""
        return self._attach_from(self.offset_tokens)

    def receive(self, message: DaemonMessage) -> Iterable[ClientMessage]:
        """Orders what the daemon says into items, result or error."""
        match message:
            case _ if self.is_over:
                return NOTHING_TO_SEND
            case Accepted():
                if self.accepted is None:
                    self._add(message)
                self.accepted = message
            case Progress():
                self._add_progress(message)
            case Chunk():
                return self._receive_chunk(message)
            case Done():
                self._receive_done(message)
            case ErrorBody(code="request_unknown") if self._may_ask_again():
                # The daemon never took the request, so asking again cannot do the work twice.
                self._is_rejoining = False
                return (self.opening,)
            case _:
                self.refuse(message)
        return NOTHING_TO_SEND

    def is_worth_telling(self, cost_bytes: int) -> bool:
        """True if it brings a grant."""
        return self._window.is_due(cost_bytes)

    def consumed(self, cost_bytes: int) -> Iterable[ClientMessage]:
        """Grants credit as chunks leave the inbox."""
        grant = self._window.consumed(cost_bytes)
        return NOTHING_TO_SEND if self.is_over else grant

    def _attach_from(self, offset_tokens: int) -> Attach:
        self._is_rejoining = True
        for chunk in self._held:
            self._window.consumed(chunk_cost(chunk))
        self._held.clear()
        return Attach(
            request_id=self.request_id,
            offset_tokens=offset_tokens,
            credit_bytes=self._window.restart(),
        )

    def _may_ask_again(self) -> bool:
        return self._is_rejoining and self.accepted is None and isinstance(self.opening, Generate)

    def _add_progress(self, progress: Progress) -> None:
        """Keeps only the newest of equal phases, so that an unread inbox stays small."""
        # A consumer on another thread may take the last item at any moment.
        with contextlib.suppress(IndexError):
            last, cost_bytes = self._inbox[-1]
            if isinstance(last, Progress) and last.phase == progress.phase:
                self._inbox[-1] = (progress, cost_bytes)
                return
        self._add(progress)

    def _receive_chunk(self, chunk: Chunk) -> Iterable[ClientMessage]:
        cost_bytes = chunk_cost(chunk)
        self._window.buffered(cost_bytes)
        granted: Iterable[ClientMessage] = NOTHING_TO_SEND
        end = chunk.offset_tokens + len(chunk.tokens)
        if end < self.offset_tokens or (chunk.tokens and end == self.offset_tokens):
            return self._window.consumed(cost_bytes)
        if chunk.offset_tokens > self.offset_tokens:
            return self._repair(self.offset_tokens, cost_bytes)
        if chunk.offset_tokens < self.offset_tokens:
            if chunk.offset_tokens not in self._units_at:
                return self._repair(self._start, cost_bytes)
            chunk = self._cut(chunk)
            granted = self._window.consumed(cost_bytes - chunk_cost(chunk))
        elif not chunk.tokens and self._is_rejoining:
            # Text without tokens right behind the attach point may have come before the loss:
            # it is shown when more tokens follow; at the end Done tells what is missing.
            self._held.append(chunk)
            return NOTHING_TO_SEND
        if not self.is_over:
            self._release_held()
            self._accept_chunk(chunk)
        return granted

    def _cut(self, chunk: Chunk) -> Chunk:
        """The part of a chunk that is new; it began where an earlier chunk began."""
        known = self.offset_tokens - chunk.offset_tokens
        shown = split_parts(self._parts, self._units_at[chunk.offset_tokens])[1]
        again, rest = split_parts(chunk.parts, units_of(shown))
        if join_parts(again) != join_parts(shown):
            self._fail_differing()
            return chunk
        return replace(
            chunk,
            offset_tokens=self.offset_tokens,
            tokens=chunk.tokens[known:],
            parts=rest,
            logprobs=chunk.logprobs[known:],
        )

    def _repair(self, offset_tokens: int, cost_bytes: int) -> Iterable[ClientMessage]:
        """Asks once for what fits on; until it comes, or Done brings it, later output waits."""
        granted = self._window.consumed(cost_bytes)
        if self._is_repairing:
            return granted
        self._is_repairing = True
        return (self._attach_from(offset_tokens),)

    def _release_held(self) -> None:
        self._is_rejoining = False
        held, self._held = self._held, []
        for chunk in held:
            self._accept_chunk(chunk)

    def _accept_chunk(self, chunk: Chunk) -> None:
        self._is_repairing = False
        self._units_at.setdefault(self.offset_tokens, self._units)
        self.offset_tokens += len(chunk.tokens)
        self._parts.extend(chunk.parts)
        self._units += units_of(chunk.parts)
        self._seq += 1
        # Numbered anew: the daemon's numbers start again with every attach.
        self._add(replace(chunk, seq=self._seq), chunk_cost(chunk))

    def _receive_done(self, done: Done) -> None:
        """Delivers what only Done carries, then ends."""
        missing_tokens = done.tokens[self.offset_tokens :]
        can_compare = self._start == 0
        missing = missing_parts(self._parts, collected_of(done)) if can_compare else ()
        if missing is None or (missing_tokens and self._is_repairing and not can_compare):
            self._fail_differing()
            return
        if missing_tokens or missing:
            self._accept_chunk(
                Chunk(
                    seq=0,
                    offset_tokens=self.offset_tokens,
                    tokens=missing_tokens,
                    parts=missing,
                )
            )
        elif not can_compare:
            self._release_held()
        self.finish(done)

    def _fail_differing(self) -> None:
        self.fail(
            HotseatError(
                "internal",
                f"output of {self.request_id} changed behind the {self.offset_tokens} tokens "
                "received; attach to it from 0",
                offset_tokens=self.offset_tokens,
            )
        )
