"""What goes into the catalogue and comes out of it. Must not know SQL."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from hotseat.protocol.ids import (
    BlockId,
    ClientToken,
    ModelName,
    RequestId,
    RequestKey,
    SessionName,
    Tag,
    request_id_of,
)
from hotseat.supervisor.conversation.cuts import SessionTurns, TurnRow

RequestKind = Literal["generate", "swap"]
RequestState = Literal["accepted", "done", "error"]


class KvFile(Struct, frozen=True, kw_only=True):
    """A file under the KV folder of its tag: `kv_dir / tag / file`."""

    tag: Tag
    file: str
    size_bytes: int


class AcceptRecord(Struct, frozen=True, kw_only=True):
    """A request as it was accepted; `body` is the wire body it came with."""

    key: RequestKey
    token: ClientToken
    request_id: RequestId
    kind: RequestKind
    body: bytes
    model: ModelName
    session: SessionName | None = None
    seed: int | None = None
    created_at: float


class RequestRow(Struct, frozen=True, kw_only=True):
    """A stored request. `body` is dropped when the request ends, `reply` is empty before."""

    key: RequestKey
    token: ClientToken
    request_id: RequestId
    kind: RequestKind
    body: bytes
    body_digest: str
    model: ModelName
    session: SessionName | None
    seed: int | None
    state: RequestState
    reply: bytes
    created_at: float
    ended_at: float | None
    offset_tokens: int
    """Completion tokens that were durable when last noted."""


class Acceptance(Struct, frozen=True, kw_only=True):
    """Answer to accept. `is_new` False: the id was known; `row` is what is stored for it.

    `same_body` False: the id was used before with another body (request_conflict).
    """

    row: RequestRow
    is_new: bool
    same_body: bool


class SessionRow(Struct, frozen=True, kw_only=True):
    """A session with everything needed to go on with it. `tokens` are packed ids."""

    id: int
    model: ModelName
    name: SessionName
    tag: Tag
    tokenizer_digest: str
    turn: int
    tokens: bytes
    messages: bytes
    hint: bytes
    closed: bool
    clock: float
    persist: bool
    created_at: float
    used_at: float
    pinned: bool = False
    revision: int = 0
    """Grows with every change of what the session holds."""
    stale: bool = False
    """The tokens are not those of the messages: the next turn renders them anew."""
    agent: str = ""
    """Label of whoever asked for the newest turn."""

    def held(self, turns: Sequence[TurnRow]) -> SessionTurns:
        """What of it can be cut."""
        return SessionTurns(
            turn=self.turn,
            tokens=self.tokens,
            messages=self.messages,
            hint=self.hint,
            closed=self.closed,
            stale=self.stale,
            turns=tuple(turns),
        )


class SessionSummary(Struct, frozen=True, kw_only=True):
    """A session without its contents. `bytes_on_disk` counts shared blocks in full."""

    id: int
    model: ModelName
    name: SessionName
    tag: Tag
    turn: int
    tokens: int
    durable_tokens: int
    bytes_on_disk: int
    closed: bool
    persist: bool
    created_at: float
    used_at: float
    pinned: bool = False
    agent: str = ""


class TurnCommit(Struct, frozen=True, kw_only=True):
    """The end of a turn: what the session is from now on, and the reply of its request.

    `turn` is the number this turn gets (None: the next one). `key` and `reply` are None when the
    turn belongs to no stored request.
    """

    model: ModelName
    session: SessionName
    tag: Tag
    tokenizer_digest: str
    turn: int | None = None
    tokens: bytes
    messages: bytes
    message_count: int
    hint: bytes
    closed: bool
    clock: float
    persist: bool = True
    agent: str = ""
    starts_over: bool = False
    """The messages do not go on from those of the turn before."""
    at: float
    key: RequestKey | None = None
    reply: bytes | None = None

    @property
    def request(self) -> str:
        """What the client calls the request of this turn."""
        return "" if self.key is None else request_id_of(self.key)


class TurnCommitted(Struct, frozen=True, kw_only=True):
    """Durable. `obsolete_files` are named by no row any more and may be unlinked.

    `missing` is the first block of the turn that is not stored, if there is one.
    """

    turn: int
    obsolete_files: tuple[KvFile, ...] = ()
    missing: BlockId | None = None


class BlockRow(Struct, frozen=True, kw_only=True):
    """A block that is on disk. `file` is relative to the folder of its tag."""

    id: BlockId
    tag: Tag
    parent: BlockId
    index: int
    file: str
    size_bytes: int
    written_at: float
    tokens: bytes = b""
    """Packed ids of the block; empty if they are not known."""


class TagTotals(Struct, frozen=True, kw_only=True):
    """KV on disk of one tag."""

    tag: Tag
    size_bytes: int
    blocks: int
    tails: int
    snapshots: int = 0
