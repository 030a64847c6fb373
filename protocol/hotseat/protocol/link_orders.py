"""What the supervisor tells a worker: one struct per order. Pure; see `link` for the codec."""

from typing import Any, Final, Literal

from msgspec import Struct

from hotseat.protocol.ids import BlockId, Epoch, RequestKey
from hotseat.protocol.messages import Message, ResponseFormat, Sampling, Tool, ToolCall, ToolChoice
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import Residence, resident_bytes
from hotseat.protocol.streamed_contexts import ContextTrial, Reading

Wiring = Literal["weights", "off"]
"""What of a model macOS must keep in memory while it is seated."""


class Load(Struct, frozen=True, tag="load", kw_only=True):
    """Load the weights of `record`, then answer Loaded or Failed."""

    record: ModelRecord
    kv_dir: str
    """Folder of this tag's KV files; the worker writes new files here and nowhere else."""
    kv_budget_bytes: int
    cache_limit_bytes: int
    memory_limit_bytes: int
    disk_floor_bytes: int = 0
    """Free space of the volume that no KV file may use."""
    wire: Wiring = "weights"
    residence: Residence | None = None
    """None: all weights are in memory."""
    contexts: Reading | None = None
    """What reading contexts costs that do not fit into memory; None: they are refused."""
    trial: ContextTrial | None = None
    """The newest of this model; the worker tries again where it was made under other versions."""

    @property
    def resident_bytes(self) -> int:
        """Weights that will be in memory."""
        if self.residence is None or self.record.parts is None:
            return self.record.weights_bytes
        return resident_bytes(self.record.parts, self.residence)


class Warm(Struct, frozen=True, tag="warm"):
    """Run one token through the model, then answer Warmed or Failed."""


class WholeInput(Struct, frozen=True, tag="whole", kw_only=True):
    """Render `messages` from the start (template models)."""

    messages: tuple[Message, ...]


class AppendInput(Struct, frozen=True, tag="append", kw_only=True):
    """Close the open turn of `context`, then append `messages` (template probe `exact`).

    `calls`: those of the turn that `context` ends with.
    """

    messages: tuple[Message, ...]
    calls: tuple[ToolCall, ...] = ()


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
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    response_format: ResponseFormat | None = None
    parallel_calls: bool | None = None
    template_args: dict[str, Any] = {}
    persist: bool = True
    resume: Resume | None = None
    """With it, `context`, `hint` and `input` are those of the first Start."""


class CountPrompt(Struct, frozen=True, tag="count", kw_only=True):
    """Render what `start` would feed, answer Counted, run nothing. With or without a seat."""

    record: ModelRecord
    start: Start
    wants_text: bool = False


class Suspend(Struct, frozen=True, tag="suspend", kw_only=True):
    """Leave the batch at the next token boundary and keep the KV live under `hold_as`.

    The sampled but unreported token is checked for end and limits and emitted first; a request
    that ends by it answers Finished, any other Suspended. A later Checkpoint makes it durable.
    """

    request: RequestKey
    hold_as: str


class Prepare(Struct, frozen=True, tag="prepare", kw_only=True):
    """Load the tokenizer of a model that will be seated soon.

    With `warm_pages`, also read what `residence` keeps in memory (None: all weights) into the page
    cache as long as at least `free_floor_bytes` of memory stay available. With
    `kernels_limit_bytes`, run random layers of its shapes, of so many bytes at most, while there is
    nothing to load, and answer KernelsWarmed.
    """

    record: ModelRecord
    warm_pages: bool = False
    residence: Residence | None = None
    free_floor_bytes: int = 0
    kernels_limit_bytes: int = 0


class HoldBlank(Struct, frozen=True, tag="hold_blank", kw_only=True):
    """Touch memory for the weights of the next Load, of which nothing is known yet; 0: let go.

    Only while `free_floor_bytes` stay available; its amount is in the beats.
    """

    size_bytes: int
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
    """A durable tail or snapshot: `tokens` follow block `parent`; a snapshot may have none."""

    file: str
    parent: BlockId
    tokens: bytes
    hint: bytes = b""


class Known(Struct, frozen=True, tag="known", kw_only=True):
    """Answer to Lookup: the first `count` of its ids are stored and leased to the request.

    `tails` hang on the root or on any of those blocks. Full blocks that follow the last of them
    may be among the tails: whoever can cut a context uses the beginning of one.
    """

    request: RequestKey
    count: int
    tails: tuple[TailRef, ...] = ()


class Drop(Struct, frozen=True, tag="drop", kw_only=True):
    """Forget the live KV of a session (it was deleted)."""

    session: str


class Rewrite(Struct, frozen=True, tag="rewrite", kw_only=True):
    """A block that was reported written is not on disk: it was evicted just then. Write it again.

    Answered by BlockWritten once it was, unless nothing in memory holds it any more.
    """

    block: BlockId


class Defer(Struct, frozen=True, tag="defer", kw_only=True):
    """While `blocks`, begin no block of a running request: the next checkpoint writes them all.

    Until the next Defer or Load, and only where all of a context can still be written then: what
    leaves a sliding window or a recurrent state is written as it is computed.
    """

    blocks: bool


QUIET_CHECKPOINT: Final = -1
"""Number of checkpoints that belong to no swap."""


class Checkpoint(Struct, frozen=True, tag="checkpoint", kw_only=True):
    """Write every live session's tail that is not durable, then answer Checkpointed.

    With `sessions` only of these; one that is not live, or that runs, is passed over.
    """

    swap: int
    sessions: tuple[str, ...] | None = None


class Shrink(Struct, frozen=True, tag="shrink", kw_only=True):
    """Memory is short: keep only the `keep` newest idle sessions live; the others' tails first."""

    keep: int = 0


class Stop(Struct, frozen=True, tag="stop"):
    """Finish writing and exit 0."""


ToWorker = (
    Load
    | Warm
    | Start
    | CountPrompt
    | Suspend
    | Prepare
    | HoldBlank
    | Unload
    | Reseat
    | CancelWork
    | Known
    | Drop
    | Rewrite
    | Defer
    | Checkpoint
    | Shrink
    | Stop
)
