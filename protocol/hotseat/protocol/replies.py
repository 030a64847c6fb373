"""What the daemon sends: one typed struct per kind. Pure."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from hotseat.protocol.limits import (
    MAX_DEPTH,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
)
from hotseat.protocol.messages import ToolCall

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
LengthLimit = Literal["max_tokens", "context", "kv_budget"]


class WireLimits(Struct, frozen=True, kw_only=True):
    """Limits a client has to keep."""

    max_body_bytes: int = MAX_FRAME_BYTES
    max_frames: int = MAX_FRAMES
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_depth: int = MAX_DEPTH
    max_items: int = MAX_ITEMS


class Welcome(Struct, frozen=True, kw_only=True):
    """Answer to Hello. `instance` changes with every start of the daemon."""

    protocol: int
    instance: str
    token: str
    version: str
    features: tuple[str, ...] = ()
    limits: WireLimits = WireLimits()


class Pong(Struct, frozen=True):
    """Answer to Ping."""


class Accepted(Struct, frozen=True, kw_only=True):
    """The request is durable. `position` 0 means it runs next; `replayed`: it was known already."""

    position: int
    expected_wait_s: float | None = None
    seed: int | None = None
    replayed: bool = False
    ignored: tuple[str, ...] | UnsetType = UNSET
    """Fields of the request that are not known, as paths (`messages[0].reasoning_content`)."""
    tokens_per_s: float | UnsetType = UNSET
    """Told when it is below 1: model or context does not fit whole, the disk allows no more."""


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens meanwhile.

    `phase` is queued, a seat phase in lower case, restoring, prefill or decode.
    """

    phase: str
    model: str | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    percent: float | None = None
    prompt_tokens_done: int | None = None
    prompt_tokens: int | None = None
    position: int | None = None
    elapsed_s: float | None = None


class ChunkPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of output.

    `index`, `id`, `name` and `arguments_delta` belong to `tool_call`: the first part of a call has
    its id and name, the deltas of one index joined are its arguments. A call that does not parse
    is a `text` part with `tool_parse_error`.
    """

    type: Literal["text", "reasoning", "tool_call"]
    text: str = ""
    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments_delta: str | None = None
    tool_parse_error: str | None = None


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """Log probability of an emitted token; `top` are the likeliest ones as `[[id, logprob]]`.

    `text` and `top_texts` are the bytes that each of them stands for, in base64: a token may be
    a piece of a character.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    text: str = ""
    top_texts: tuple[str, ...] = ()


class Chunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Output. `offset_tokens` counts the completion tokens before this chunk."""

    seq: int
    offset_tokens: int
    tokens: tuple[int, ...] = ()
    parts: tuple[ChunkPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Usage(Struct, frozen=True, kw_only=True):
    """prompt_tokens = restored_tokens + computed_tokens.

    Restored: their KV came from memory (`live_tokens`) or SSD (`disk_tokens`). The session held
    `own_tokens` of them before; `shared_tokens` come from others that begin with the same tokens.
    Computed: they were run through the model again.
    """

    prompt_tokens: int = 0
    restored_tokens: int = 0
    computed_tokens: int = 0
    completion_tokens: int = 0
    live_tokens: int = 0
    disk_tokens: int = 0
    own_tokens: int = 0
    shared_tokens: int = 0
    reasoning_tokens: int = 0
    """Of `completion_tokens`: those that were drawn while the model thought aloud."""


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds. `ttft_s` counts from accept to the first token."""

    queue_s: float = 0.0
    swap_s: float = 0.0
    restore_s: float = 0.0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


class Done(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The end of a request that did not fail. Cancelled work ends here too."""

    model: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    limit: LengthLimit | None = None
    session: str | None = None
    turn: int | None = None
    context: Literal["appended", "rendered"] | None = None
    seed: int | None = None
    note: str = ""
    stop_string: str | None = None
    """The one of `stop` that ended it."""
    reasoning: str = ""
    """What the model thought aloud; `text` is without it."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_parse_error: str | None = None
    """Why something that began like a tool call stands in `text`."""
    packed_tokens: str | None = None
    """On the wire instead of `tokens` when they are more than 32,768: base64 of the ids as
    unsigned 32-bit little endian."""


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The end of a request that failed; `code` is a key of `errors.ERRORS`."""

    code: str
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Cause(Struct, frozen=True, kw_only=True):
    """Who made a swap happen."""

    client: str
    request_id: str
    model_asked: str
    agent: str = ""


class SwapPhases(Struct, frozen=True, kw_only=True):
    """Seconds per phase of a swap."""

    drain_s: float = 0.0
    checkpoint_s: float = 0.0
    stop_s: float = 0.0
    reclaim_s: float = 0.0
    load_s: float = 0.0
    warm_s: float = 0.0


class SwapMemory(Struct, frozen=True, kw_only=True):
    """Machine memory around a swap, bytes; wired is None where the OS does not tell.

    `wired_not_back_bytes`: what the ended worker had wired and the system had not given back when
    the next model began to load. It held nothing up for longer than 5 s. `unwire_s`: what giving
    wired pages back took the worker before it ended; None without Metal, or if it was killed.
    """

    available_before: int = 0
    available_after: int = 0
    wired_before: int | None = None
    wired_after: int | None = None
    wired_not_back_bytes: int | None = None
    unwire_s: float | None = None


class SwapReport(Struct, frozen=True, kw_only=True):
    """The result of a swap: answer to `swap`, payload of `swap.finished`."""

    from_: str | None = field(name="from")
    to: str
    mode: Literal["process", "in-process", "none"]
    cause: Cause
    phases: SwapPhases
    total_s: float
    memory: SwapMemory
    sessions_checkpointed: int
    bytes_written: int


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened. `at` is Unix time; `name` is dotted past tense ("swap.finished")."""

    seq: int
    at: float
    name: str
    facts: dict[str, Any]


class Gap(Struct, frozen=True, kw_only=True):
    """Events between `since` and `next_seq` are gone from the ring; `status` is a full one."""

    since: int
    next_seq: int
    status: dict[str, Any]


class Reply(Struct, frozen=True, kw_only=True):
    """Answer to a kind that reads state or acts at once; `result` is JSON-safe."""

    result: dict[str, Any]


DaemonMessage = (
    Welcome
    | Pong
    | Accepted
    | Progress
    | Chunk
    | Done
    | ErrorBody
    | Event
    | Gap
    | Reply
    | SwapReport
)

DAEMON_KINDS: dict[str, type[DaemonMessage]] = {
    "welcome": Welcome,
    "pong": Pong,
    "accepted": Accepted,
    "progress": Progress,
    "chunk": Chunk,
    "done": Done,
    "error": ErrorBody,
    "event": Event,
    "gap": Gap,
    "reply": Reply,
    "swapped": SwapReport,
}
