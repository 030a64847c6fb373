"""Messages between supervisor and worker. Pure. One struct per kind, epoch on every frame.

Both ends run the same version, so the link is MessagePack by msgspec with tagged structs and may
carry binary. Token ids travel packed (`tokens.pack_tokens`).
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from hotseat.protocol.ids import BlockId, Epoch, RequestKey
from hotseat.protocol.messages import Message, Sampling
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import FinishReason, LengthLimit, TokenLogprob

# --- supervisor to worker ---------------------------------------------------------------------


class Load(Struct, frozen=True, tag="load", kw_only=True):
    """Load the weights of `record`, then answer Loaded or LoadFailed."""

    record: ModelRecord
    kv_dir: str
    """Folder of this tag's KV files; the worker writes new files here and nowhere else."""
    kv_budget_bytes: int
    cache_limit_bytes: int
    memory_limit_bytes: int
    disk_floor_bytes: int = 0
    """Free space of the volume that no KV file may use."""


class Warm(Struct, frozen=True, tag="warm"):
    """Run one token through the model, then answer Warmed."""


class WholeInput(Struct, frozen=True, tag="whole", kw_only=True):
    """Render `messages` from the start (template models)."""

    messages: tuple[Message, ...]


class AppendInput(Struct, frozen=True, tag="append", kw_only=True):
    """Close the open turn of `context`, then append `messages` (template probe `exact`)."""

    messages: tuple[Message, ...]


class TextInput(Struct, frozen=True, tag="text", kw_only=True):
    """Raw text after `context`; special tokens are added only when `context` is empty."""

    text: str


class TokensInput(Struct, frozen=True, tag="tokens", kw_only=True):
    """Token ids after `context`, as they are."""

    tokens: bytes


Input = WholeInput | AppendInput | TextInput | TokensInput


class Resume(Struct, frozen=True, kw_only=True):
    """Go on with a request that was suspended, or whose worker died, as if nothing had happened.

    `prompt`: packed ids as rendered the first time (nothing is rendered again). `emitted`: packed
    completion ids the client has or will get from us; they are not emitted again, and their
    positions, text, stop matching, penalties and limits count as if they had just been. The last
    of them has no KV yet. `held_as`: session name under which the KV was kept at suspension.
    `restored_tokens`: that of the first Started, since the shapes of its prefill began there.
    """

    prompt: bytes
    emitted: bytes
    held_as: str | None = None
    restored_tokens: int = 0


class Start(Struct, frozen=True, tag="start", kw_only=True):
    """Run a request. Answered by Refused, or Started ... Emitted* ... Finished.

    `context`: packed ids the session holds before this turn (empty: new).
    `hint`: opaque bytes the worker gave with the session's last Finished or TailWritten; they say
    in which shapes tokens after the last full block were computed. `clock` fixes dates in the
    chat template to the session's creation.
    """

    request: RequestKey
    session: str | None
    context: bytes = b""
    hint: bytes = b""
    input: Input
    clock: float
    sampling: Sampling
    seed: int
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    logprobs: int = 0
    persist: bool = True
    resume: Resume | None = None
    """With it, `context`, `hint` and `input` are those of the first Start."""


class Suspend(Struct, frozen=True, tag="suspend", kw_only=True):
    """Leave the batch at the next token boundary and keep the KV live under `hold_as`.

    The sampled but unreported token is checked for end and limits and emitted first; a request
    that ends by it answers Finished, any other Suspended. A later Checkpoint makes it durable.
    """

    request: RequestKey
    hold_as: str


class Prepare(Struct, frozen=True, tag="prepare", kw_only=True):
    """Load the tokenizer of a model that will be seated soon.

    With `warm_pages`, also read its weight files into the page cache as long as at least
    `free_floor_bytes` of memory stay available.
    """

    record: ModelRecord
    warm_pages: bool = False
    free_floor_bytes: int = 0


class Unload(Struct, frozen=True, tag="unload", kw_only=True):
    """Give the model and all KV up and stay alive; answered by Unloaded."""


class Reseat(Struct, frozen=True, tag="reseat", kw_only=True):
    """After Unloaded: from the next frame on this process is the worker of `epoch`."""

    epoch: Epoch


class CancelWork(Struct, frozen=True, tag="cancel", kw_only=True):
    """End a request at the next token boundary; answered by its Finished (cancelled)."""

    request: RequestKey


class TailRef(Struct, frozen=True, kw_only=True):
    """A durable tail: `tokens` follow block `parent`."""

    file: str
    parent: BlockId
    tokens: bytes
    hint: bytes = b""


class Known(Struct, frozen=True, tag="known", kw_only=True):
    """Answer to Lookup: the first `count` of its ids are stored and leased to the request.

    `tails` hang on the root or on any of those blocks.
    """

    request: RequestKey
    count: int
    tails: tuple[TailRef, ...] = ()


class Drop(Struct, frozen=True, tag="drop", kw_only=True):
    """Forget the live KV of a session (it was deleted)."""

    session: str


class Checkpoint(Struct, frozen=True, tag="checkpoint", kw_only=True):
    """Write every live session's tail that is not durable, then answer Checkpointed."""

    swap: int


class Stop(Struct, frozen=True, tag="stop"):
    """Finish writing and exit 0."""


ToWorker = (
    Load
    | Warm
    | Start
    | Suspend
    | Prepare
    | Unload
    | Reseat
    | CancelWork
    | Known
    | Drop
    | Checkpoint
    | Stop
)

# --- worker to supervisor ---------------------------------------------------------------------


class WorkerHello(Struct, frozen=True, tag="hello", kw_only=True):
    """First message; `token` is the secret the supervisor passed to this process."""

    pid: int
    token: str
    mlx_version: str
    mlx_lm_version: str
    working_set_bytes: int | None = None
    """Metal's recommended working set; None on the CPU backend."""


class LoadProgress(Struct, frozen=True, tag="load_progress", kw_only=True):
    """Bytes of weights in memory so far."""

    bytes_done: int
    bytes_total: int


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
    restore_s: float = 0.0
    rendered: bool = False
    """True: the whole history was rendered; False: only new text was appended."""
    miss: str = ""
    prompt: bytes = b""
    """Packed ids of the rendered prompt, for a later Resume."""


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
    tokens_total: int


class Emitted(Struct, frozen=True, tag="emitted", kw_only=True):
    """Tokens that are now part of the output; `text` is what became readable with them."""

    request: RequestKey
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


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


class BlockWritten(Struct, frozen=True, tag="block_written", kw_only=True):
    """A full block is on disk (synced, renamed). `file` is relative to `kv_dir`."""

    block: BlockId
    parent: BlockId
    index: int
    """Position in its chain: 0 is the first block of the sequence."""
    file: str
    size_bytes: int


class TailWritten(Struct, frozen=True, tag="tail_written", kw_only=True):
    """The tail of `session` is on disk. `parent` is a block id or the root."""

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


class Quarantined(Struct, frozen=True, tag="quarantined", kw_only=True):
    """A KV file did not verify and must not be offered again."""

    file: str
    reason: str
    block: BlockId | None = None


class Beat(Struct, frozen=True, tag="beat", kw_only=True):
    """Sent every 200 ms by the link thread. `step` advances only with work done."""

    phase: str
    step: int
    busy: bool
    active_bytes: int
    cache_bytes: int
    peak_bytes: int
    live_kv_bytes: int
    live_sessions: tuple[str, ...] = ()
    backlog_bytes: int = 0


class Stopped(Struct, frozen=True, tag="stopped"):
    """All is written; the process exits next."""


FromWorker = (
    WorkerHello
    | LoadProgress
    | Loaded
    | Failed
    | Warmed
    | Lookup
    | Refused
    | Started
    | Suspended
    | Prepared
    | Unloaded
    | Prefilled
    | Emitted
    | Finished
    | Broken
    | BlockWritten
    | TailWritten
    | WriteFailed
    | Checkpointed
    | Quarantined
    | Beat
    | Stopped
)

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_link(epoch: Epoch, message: ToWorker | FromWorker) -> list[bytes]:
    """Frames `[epoch, body]`."""
    return [str(epoch).encode(), _ENCODER.encode(message)]


def decode_to_worker(frames: list[bytes]) -> tuple[Epoch, ToWorker]:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    epoch, body = frames
    return Epoch(int(epoch)), _TO_WORKER.decode(body)


def decode_from_worker(frames: list[bytes]) -> tuple[Epoch, FromWorker]:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    epoch, body = frames
    return Epoch(int(epoch)), _FROM_WORKER.decode(body)
