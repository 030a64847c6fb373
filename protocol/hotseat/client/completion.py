"""The stream of one generation: no token lost, none twice, whatever the connection does. Pure.

Offsets count completion tokens. The daemon may merge text and may send again what it sent before
a connection was lost; this machine turns that into one gapless sequence of chunks.
"""

from collections.abc import Iterable

import msgspec

from hotseat.client.exchange import NOTHING_TO_SEND, Exchange, Window
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import Attach, ClientMessage, Generate
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
        self.offset_tokens = opening.offset_tokens if isinstance(opening, Attach) else 0
        self._knows_start = self.offset_tokens == 0
        self._window = Window(opening.credit_bytes or DEFAULT_CREDIT_BYTES)
        self._text: list[str] = []
        self._has_other_parts = False
        self._seq = -1
        self._held: list[tuple[Chunk, int]] = []
        self._is_rejoining = False
        self._is_repairing = False

    def reopening(self) -> ClientMessage:
        """Attaches behind the last token received; the daemon may know the request or not."""
        self._is_rejoining = True
        self._held.clear()
        return Attach(
            request_id=self.request_id,
            offset_tokens=self.offset_tokens,
            credit_bytes=self._window.restart(),
        )

    def receive(self, message: DaemonMessage, size_bytes: int) -> Iterable[ClientMessage]:
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
                return self._receive_chunk(message, size_bytes)
            case Done():
                self._receive_done(message)
            case ErrorBody(code="request_unknown") if self._may_ask_again():
                # The daemon never took the request, so asking again cannot do the work twice.
                self._is_rejoining = False
                return (self.opening,)
            case _:
                self.refuse(message)
        return NOTHING_TO_SEND

    def consumed(self, size_bytes: int) -> Iterable[ClientMessage]:
        """Grants credit as chunks leave the inbox."""
        return self._window.consumed(size_bytes) if size_bytes and not self.is_over else ()

    def _may_ask_again(self) -> bool:
        return (
            self._is_rejoining
            and self.accepted is None
            and isinstance(self.opening, Generate)
            and not self.offset_tokens
        )

    def _add_progress(self, progress: Progress) -> None:
        """Keeps only the newest of equal phases, so that an unread inbox stays small."""
        if self._inbox:
            last, size_bytes = self._inbox[-1]
            if isinstance(last, Progress) and last.phase == progress.phase:
                self._inbox[-1] = (progress, size_bytes)
                return
        self._add(progress)

    def _receive_chunk(self, chunk: Chunk, size_bytes: int) -> Iterable[ClientMessage]:
        self._window.buffered(size_bytes)
        end = chunk.offset_tokens + len(chunk.tokens)
        if chunk.offset_tokens > self.offset_tokens:
            return self._repair(size_bytes)
        if end < self.offset_tokens or (chunk.tokens and end == self.offset_tokens):
            return self._window.consumed(size_bytes)
        if chunk.offset_tokens < self.offset_tokens:
            self.fail(
                HotseatError(
                    "bad_frame",
                    f"chunk of tokens {chunk.offset_tokens} to {end} overlaps the "
                    f"{self.offset_tokens} tokens received of {self.request_id}; its text cannot "
                    "be cut",
                    offset_tokens=self.offset_tokens,
                )
            )
            return NOTHING_TO_SEND
        if not chunk.tokens and self._is_rejoining:
            # Text without tokens right behind the attach point may have come before the loss:
            # it is shown when more tokens follow; at the end Done tells what is missing.
            self._held.append((chunk, size_bytes))
            return NOTHING_TO_SEND
        self._release_held()
        self._accept_chunk(chunk, size_bytes)
        return NOTHING_TO_SEND

    def _release_held(self) -> None:
        self._is_rejoining = False
        held, self._held = self._held, []
        for chunk, size_bytes in held:
            self._accept_chunk(chunk, size_bytes)

    def _accept_chunk(self, chunk: Chunk, size_bytes: int) -> None:
        self._is_repairing = False
        self.offset_tokens += len(chunk.tokens)
        for part in chunk.parts:
            if part.type == "text":
                self._text.append(part.text)
            else:
                self._has_other_parts = True
        self._seq += 1
        # Numbered anew: the daemon's numbers start again with every attach.
        self._add(msgspec.structs.replace(chunk, seq=self._seq), size_bytes)

    def _repair(self, size_bytes: int) -> Iterable[ClientMessage]:
        """Asks once for what is missing; until it comes, or Done brings it, later text waits."""
        granted = tuple(self._window.consumed(size_bytes))
        if self._is_repairing:
            return granted
        self._is_repairing = True
        return (self.reopening(),)

    def _receive_done(self, done: Done) -> None:
        """Delivers what only Done carries, then ends."""
        text = "".join(self._text)
        missing_tokens = done.tokens[self.offset_tokens :]
        can_compare = self._knows_start and not self._has_other_parts
        if (can_compare and not done.text.startswith(text)) or (
            missing_tokens and self._is_repairing and not can_compare
        ):
            self.fail(
                HotseatError(
                    "internal",
                    f"stream of {self.request_id} and its result differ after "
                    f"{self.offset_tokens} tokens; attach to it from 0",
                    offset_tokens=self.offset_tokens,
                )
            )
            return
        missing_text = done.text[len(text) :] if can_compare else ""
        if missing_tokens or missing_text:
            parts = (ChunkPart(type="text", text=missing_text),) if missing_text else ()
            rest = Chunk(
                seq=0, offset_tokens=self.offset_tokens, tokens=missing_tokens, parts=parts
            )
            self._accept_chunk(rest, 0)
        elif not can_compare:
            self._release_held()
        self.finish(done)
