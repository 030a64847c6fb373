"""What a worker tells the supervisor: one struct per report. Pure; see `link` for the codec."""

from typing import Any, Final, Literal

from msgspec import Struct

from hotseat.protocol.ids import BlockId, RequestKey
from hotseat.protocol.replies import ChunkPart, FinishReason, LengthLimit, TokenLogprob
from hotseat.protocol.streamed_contexts import ContextTrial


class WorkerHello(Struct, frozen=True, tag="hello", kw_only=True):
    """First message; `token` is the secret the supervisor passed to this process."""

    pid: int
    token: str
    working_set_bytes: int | None = None
    """Metal's recommended working set; None on the CPU backend."""
    code: str = ""
    """Digest of the files it was started from (`installed_code.py`); empty: it does not know."""


class LoadProgress(Struct, frozen=True, tag="load_progress", kw_only=True):
    """Bytes of weights in memory so far; `next_bytes` come before the next report."""

    bytes_done: int
    bytes_total: int
    next_bytes: int = 0


class Loaded(Struct, frozen=True, tag="loaded", kw_only=True):
    """Weights are in memory. Sizes as measured by the allocator."""

    active_bytes: int
    seconds: float


class Failed(Struct, frozen=True, tag="failed", kw_only=True):
    """Load or Warm failed. `code` is a wire error code; `permanent`: trying again cannot help."""

    during: Literal["load", "warm"]
    code: str
    message: str
    permanent: bool
    facts: dict[str, Any] = {}


class Warmed(Struct, frozen=True, tag="warmed", kw_only=True):
    """The model answered one token."""

    seconds: float
    peak_bytes: int


class Lookup(Struct, frozen=True, tag="lookup", kw_only=True):
    """Which of these blocks (a chain from the root) are stored? Lease them to the request."""

    request: RequestKey
    blocks: tuple[BlockId, ...]


class Refused(Struct, frozen=True, tag="refused", kw_only=True):
    """The request cannot run (context_overflow, unsupported_feature, ...); nothing changed."""

    request: RequestKey
    code: str
    message: str
    facts: dict[str, Any] = {}


class Divergence(Struct, frozen=True, kw_only=True):
    """Where a rendered prompt leaves the context that its session holds.

    The KV of the context from token `position` on, `lost_tokens` of them, cannot be used. `held`
    and `rendered` are a few tokens from there on, as text.
    """

    position: int
    lost_tokens: int
    held: str
    rendered: str


class Started(Struct, frozen=True, tag="started", kw_only=True):
    """Prompt rendered and context restored; prefill begins.

    `restored_tokens` + `computed_tokens` = `prompt_tokens`; after a resume the ids emitted before
    count in all three. `miss` says why less was restored than the supervisor could expect
    (damaged file, ...), empty otherwise.
    """

    request: RequestKey
    prompt_tokens: int
    restored_tokens: int
    computed_tokens: int
    live_tokens: int = 0
    """How many of the restored ones were still in memory."""
    own_tokens: int = 0
    """How many of them the session had before; the others are another one's."""
    restore_s: float = 0.0
    rendered: bool = False
    """True: the whole history was rendered; False: only new text was appended."""
    miss: str = ""
    prompt: bytes = b""
    """Packed ids of the rendered prompt, for a later Resume."""
    diverged: "Divergence | None" = None


class Diverged(Struct, frozen=True, tag="diverged", kw_only=True):
    """Up to `position` the prompt is stored by others; from there the two differ.

    `same_text`: the two pieces are the same text in other tokens.
    """

    request: RequestKey
    position: int
    held: str
    given: str
    same_text: bool


class Suspended(Struct, frozen=True, tag="suspended", kw_only=True):
    """The request left the batch. `context`: packed ids whose KV is live under `hold_as`.

    Sent after all full blocks were written and reported; everything emitted was sent before.
    """

    request: RequestKey
    hold_as: str
    context: bytes
    hint: bytes
    completion_tokens: int


class Prepared(Struct, frozen=True, tag="prepared", kw_only=True):
    """The tokenizer is in memory; `warmed_bytes` of weights were read ahead."""

    model: str
    warmed_bytes: int = 0


class KernelsWarmed(Struct, frozen=True, tag="kernels_warmed", kw_only=True):
    """Layers of a model ran in the shapes of its steps; nothing of them is in memory any more.

    `longest_s` is the longest of its evaluations, which a load that came then waited for at most.
    `left_out` says why some or all of it was not done; empty: all was.
    """

    model: str
    seconds: float
    longest_s: float = 0.0
    left_out: str = ""


class Counted(Struct, frozen=True, tag="counted", kw_only=True):
    """What a prompt has: packed ids and, if asked for, its text. With `code` it was refused."""

    request: RequestKey
    tokens: bytes = b""
    text: str = ""
    code: str = ""
    message: str = ""
    facts: dict[str, Any] = {}


class Unloaded(Struct, frozen=True, tag="unloaded", kw_only=True):
    """Nothing of the model is referenced. Bytes by the allocator and by the OS, before and after.

    `leaked`: names of objects that a weak reference still found alive.
    """

    active_before: int
    active_after: int
    footprint_before: int
    footprint_after: int
    leaked: tuple[str, ...] = ()


class Prefilled(Struct, frozen=True, tag="prefilled", kw_only=True):
    """Prefill progress, after each chunk."""

    request: RequestKey
    tokens_done: int


class Emitted(Struct, frozen=True, tag="emitted", kw_only=True):
    """Tokens that are now part of the output; `text` is what became readable with them.

    `parts` is the same output with whatever is not text in its place; empty if all is text.
    """

    request: RequestKey
    tokens: tuple[int, ...]
    text: str
    parts: tuple[ChunkPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    text_lengths: tuple[int, ...] = ()
    """Characters of `text` by token; empty: they came with the last one."""


class Finished(Struct, frozen=True, tag="finished", kw_only=True):
    """The end. Sent after all full blocks of the sequence were written and reported.

    `context` are the packed ids whose KV the session now holds (prompt + completion as fed).
    `text` is the final text after stop strings. `closed`: the last id is an end-of-turn token.
    """

    request: RequestKey
    finish_reason: FinishReason
    limit: LengthLimit | None = None
    text: str
    completion_tokens: int
    reasoning_tokens: int = 0
    stop_string: str | None = None
    context: bytes
    hint: bytes
    closed: bool
    ttft_s: float
    decode_s: float


class Broken(Struct, frozen=True, tag="broken", kw_only=True):
    """The request failed inside the engine; the session stays at the turn before."""

    request: RequestKey
    code: str
    message: str
    facts: dict[str, Any] = {}


class ContextLost(Struct, frozen=True, tag="context_lost", kw_only=True):
    """A block that the request's context is read from cannot be; the request left the batch.

    Nothing is live of it. Started again, it goes on from what is stored.
    """

    request: RequestKey
    reason: str


class BlockWritten(Struct, frozen=True, tag="block_written", kw_only=True):
    """A full block is on disk (synced, renamed). `file` is relative to `kv_dir`."""

    block: BlockId
    parent: BlockId
    index: int
    """Position in its chain: 0 is the first block of the sequence."""
    file: str
    size_bytes: int
    is_new: bool = True
    """False: the file was there and verified, nothing was written."""
    tokens: bytes = b""
    """Packed ids of the block."""


class TailWritten(Struct, frozen=True, tag="tail_written", kw_only=True):
    """The tail of `session`, or a snapshot, is on disk. `parent` is a block id or the root.

    A snapshot belongs to its token prefix, like a block, not to `session`, which is empty for one
    that was not the end of a session.
    """

    kind: Literal["tail", "snapshot"] = "tail"
    session: str
    parent: BlockId
    tokens: bytes
    hint: bytes
    file: str
    size_bytes: int


class WriteFailed(Struct, frozen=True, tag="write_failed", kw_only=True):
    """A KV file could not be written; what was stored before is untouched."""

    code: str
    message: str
    file: str
    session: str | None = None


class Checkpointed(Struct, frozen=True, tag="checkpointed", kw_only=True):
    """Everything that could be written has been reported; `failed` names sessions that were not."""

    swap: int
    sessions: int
    bytes_written: int
    failed: tuple[str, ...] = ()
    message: str = ""


class ContextsTried(Struct, frozen=True, tag="contexts_tried", kw_only=True):
    """Whether contexts of the seated model can be read from files; holds for the next seatings."""

    trial: ContextTrial


class Quarantined(Struct, frozen=True, tag="quarantined", kw_only=True):
    """A KV file did not verify and must not be offered again."""

    file: str
    reason: str
    block: BlockId | None = None


PREPARING: Final = "preparing"
"""Phase of a worker without a seat that runs layers of a model that may be next."""
TRYING: Final = "trying"
"""Phase of a worker that tries its model (`ContextsTried`); `step` advances with every pass."""


class Beat(Struct, frozen=True, tag="beat", kw_only=True):
    """Sent every 200 ms by the link thread, each 2 s at rest. `step` advances only with work."""

    phase: str
    step: int
    busy: bool
    active_bytes: int
    cache_bytes: int
    peak_bytes: int
    live_kv_bytes: int
    live_sessions: tuple[str, ...] = ()
    backlog_bytes: int = 0
    blank_bytes: int = 0
    """Touched for the next load and holding nothing yet."""
    streamed_bytes: int = 0
    """Weights read since the load, of a model that is not whole in memory."""
    streamed_s: float = 0.0
    """In which any of them were being read."""


class Stopped(Struct, frozen=True, tag="stopped"):
    """All is written; the process exits next."""


class Unwired(Struct, frozen=True, tag="unwired", kw_only=True):
    """Metal gave wired pages back, before an unload or between Stopped and the exit."""

    seconds: float


FromWorker = (
    WorkerHello
    | LoadProgress
    | Loaded
    | Failed
    | Warmed
    | Lookup
    | Refused
    | Started
    | Diverged
    | Suspended
    | Prepared
    | KernelsWarmed
    | Counted
    | Unloaded
    | Prefilled
    | Emitted
    | Finished
    | Broken
    | ContextLost
    | BlockWritten
    | TailWritten
    | WriteFailed
    | Checkpointed
    | ContextsTried
    | Quarantined
    | Beat
    | Stopped
    | Unwired
)
