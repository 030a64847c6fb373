"""Shapes of what `status`, `models`, `sessions` and `plan` answer (`Reply.result`). Pure."""

from typing import Any, Literal

from msgspec import Struct, field

from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import Capabilities, TemplateProbe
from hotseat.protocol.residence import Residence, StreamedView
from hotseat.protocol.streamed_contexts import Reading
from hotseat.protocol.telemetry import MemoryPages


class WorkerView(Struct, frozen=True, kw_only=True):
    """The seated worker, in bytes; None before it was measured."""

    pid: int | None = None
    footprint_bytes: int | None = None
    active_bytes: int | None = None
    cache_bytes: int | None = None
    peak_bytes: int | None = None
    live_kv_bytes: int | None = None
    live_sessions: int = 0
    backlog_bytes: int | None = None
    """KV that was handed to the writer and is not on disk yet."""


class StandbyView(Struct, frozen=True, kw_only=True):
    """The standby worker, if there is one. `ready`: its libraries are loaded."""

    pid: int | None = None
    ready: bool = False
    footprint_bytes: int | None = None


class QueueView(Struct, frozen=True, kw_only=True):
    """Requests by state; `models` are those waiting for the seat, in order."""

    running: int = 0
    waiting: int = 0
    """Suspended ones included."""
    suspended: int = 0
    models: tuple[str, ...] = ()


class RequestView(Struct, frozen=True, kw_only=True):
    """One request for `hotseat queue`. Suspended ones began and wait for their model."""

    id: str
    client: str
    model: str
    session: str | None
    state: Literal["waiting", "running", "suspended"]
    position: int
    age_s: float
    completion_tokens: int
    agent: str = ""


class MemoryView(Struct, frozen=True, kw_only=True):
    """Machine memory, bytes."""

    total_bytes: int
    available_bytes: int
    wired_bytes: int | None = None
    reserve_bytes: int = 0
    kv_budget_bytes: int | None = None
    kv_disk_bytes: int = 0
    pressure: int | None = None
    """As the system calls it: 1 normal, 2 warning, 4 critical; None where it has no such level."""
    shedding: str = ""
    """"warning": idle contexts leave memory, requests run one at a time. "critical": requests
    that run are suspended, new ones are refused. Empty: neither."""
    pages: MemoryPages | None = None
    """By class, as macOS counts them; None elsewhere."""


class QuarantineView(Struct, frozen=True, kw_only=True):
    """A model that requests do not seat for now. `retry_in_s` None: until somebody swaps to it."""

    model: str
    reason: str
    retry_in_s: float | None = None


class SwapView(Struct, frozen=True, kw_only=True):
    """A swap under way."""

    from_: str | None = field(default=None, name="from")
    to: str | None = None
    phase: str = ""
    elapsed_s: float = 0.0
    percent: float | None = None


class RecoveryView(Struct, frozen=True, kw_only=True):
    """What a daemon found when it started.

    `after`: how the last run ended (nothing: there was none). `phase` and `model` are where its
    seat was. `undone` names what was under way and counts as never having happened. Requests that
    were accepted are kept: they go on when their client asks for them, or end as `interrupted`.
    """

    after: Literal["nothing", "stop", "kill"] = "nothing"
    phase: str = ""
    model: str | None = None
    undone: tuple[str, ...] = ()
    kept_requests: int = 0
    seconds: float = 0.0


GatewayState = Literal["starting", "running", "ended"]


class GatewayView(Struct, frozen=True, kw_only=True):
    """The HTTP gateway that the daemon keeps. `starts` counts since the daemon started."""

    address: str
    state: GatewayState = "starting"
    pid: int | None = None
    reason: str = ""
    """Why it ended, in its own words."""
    starts: int = 0


class StatusView(Struct, frozen=True, kw_only=True):
    """`hotseat status --json`; `running` is False only in the answer the CLI makes up itself."""

    running: bool
    phase: str
    model: str | None
    epoch: int
    worker: WorkerView
    standby: StandbyView
    queue: QueueView
    memory: MemoryView
    uptime_s: float
    version: str
    instance: str = ""
    pid: int = 0
    swap: SwapView | None = None
    requests: tuple[RequestView, ...] = ()
    quarantined: tuple[QuarantineView, ...] = ()
    sessions_live: int = 0
    sessions_total: int = 0
    bytes_written: int = 0
    bytes_written_today: int = 0
    """Since midnight UTC, over restarts."""
    seated_for_s: float = 0.0
    last_error: str = ""
    recovery: RecoveryView | None = None
    notices: tuple[str, ...] = ()
    """What a person should know and do something about, a sentence each."""
    released_until: float | None = None
    """Unix time before which requests leave the seat empty (`release --for`)."""
    seated_until: float | None = None
    """Unix time at which the model gives the seat up if nobody asks for it; None while in use."""
    keeps_awake: Literal["", "request", "swap"] = ""
    """What the machine is kept from idle sleep for."""
    gpu_errors: int = 0
    """Workers that ended because the GPU failed, since the daemon started."""
    gateway: GatewayView | None = None
    """None where `[http] enabled` is off."""
    streamed: StreamedView | None = None
    """Of the model that has the seat; None where all of it is in memory."""


class ModelView(Struct, frozen=True, kw_only=True):
    """One registered model. `state`: seated, ready, unfit, unavailable or quarantined.

    `capabilities`: what its caches allow; absent for one that cannot be served. `state_bytes`: of
    recurrent layers, per session, whatever its length.
    """

    name: str
    state: Literal["seated", "ready", "unfit", "unavailable", "quarantined"]
    reason: str = ""
    architecture: str = ""
    quantisation: str = ""
    parameters: int = 0
    weights_bytes: int = 0
    context_tokens: int = 0
    kv_bytes_per_token: int = 0
    state_bytes: int = 0
    capabilities: Capabilities | None = None
    append: str = ""
    licence: str = ""
    tag: str = ""
    path: str = ""
    template: TemplateProbe | None = None
    aliases: tuple[str, ...] = ()
    """Other names that stand for it now, without those that are patterns."""
    sampling: Sampling = Sampling()
    """How it draws where a request does not say: settings before `generation_config.json`."""


class SessionView(Struct, frozen=True, kw_only=True):
    """One session. `durable_tokens`: how many tokens have their KV on SSD."""

    model: str
    session: str
    turn: int
    tokens: int
    durable_tokens: int
    state: Literal["live", "cold", "running"]
    bytes_on_disk: int
    created_at: float
    used_at: float
    messages: tuple[dict[str, Any], ...] | None = None
    pinned: bool = False
    prefill_tokens: int = 0
    """Of a cold session: how many tokens its next turn computes again, since their KV is gone.

    The newest token does not count unless an end-of-turn id is behind it: it may have none yet."""
    persist: bool = True
    agent: str = ""
    """Label of whoever asked for the newest turn; empty if nobody said one."""
    turns: tuple["TurnView", ...] | None = None
    """Turns it can be forked at and rewound to; only when one session is asked for."""


class TurnView(Struct, frozen=True, kw_only=True):
    """A turn that can be gone back to. `tokens` and `messages`: how long the session was then.

    `request`: the id of the request that made it, so that a turn is told from another of its number
    before a rewind; empty where nobody knows.
    """

    turn: int
    tokens: int
    messages: int
    at: float
    request: str = ""


class SessionChange(Struct, frozen=True, kw_only=True):
    """What fork, rewind, replace and pin answer: the session as it is now.

    `origin`: what it was forked from. `kept_tokens`: leading tokens that need no new rendering.
    """

    model: str
    session: str
    turn: int
    messages: int
    kept_tokens: int
    origin: str | None = None
    pinned: bool = False


class CountView(Struct, frozen=True, kw_only=True):
    """What a prompt takes. `fits`: the context holds it and one token of an answer.

    `kv_fit_tokens`: the longest context that would be taken now, in memory or read from the disk,
    None if the model does not fit. `stored_tokens`: how many leading tokens would not be computed.
    `rendered`: the whole history was rendered. `text` only when asked for.
    """

    model: str
    tokens: int
    context_tokens: int
    fits: bool
    kv_fit_tokens: int | None = None
    stored_tokens: int = 0
    rendered: bool = True
    counted_by: Literal["worker", "standby", "ids"] = "worker"
    """"ids": the request brings token ids, nobody had to be asked."""
    text: str | None = None


class FitView(Struct, frozen=True, kw_only=True):
    """How many sessions of a context length fit into the KV budget at once."""

    context_tokens: int
    sessions: int
    bytes_per_session: int


class PlanView(Struct, frozen=True, kw_only=True):
    """A memory plan, in bytes. `binding` sets `limit_bytes`, `holders` are foreign processes."""

    model: str
    fits: bool
    reason: str = ""
    remedy: str = ""
    total_bytes: int = 0
    reserve_bytes: int = 0
    working_set_bytes: int | None = None
    available_bytes: int = 0
    limit_bytes: int = 0
    binding: str = ""
    weights_bytes: int = 0
    overhead_bytes: int = 0
    overhead_measured: bool = False
    standby_bytes: int = 0
    prefill_peak_bytes: int = 0
    kv_budget_bytes: int = 0
    kv_bytes_per_token: int = 0
    window_bytes: int = 0
    state_bytes: int = 0
    """Recurrent state of one session, whatever its length."""
    context_tokens: int = 0
    max_context_tokens: int = 0
    sessions: tuple[FitView, ...] = ()
    what_if: bool = False
    """For the machine that was asked about, not for this one."""
    holders: tuple[tuple[str, int], ...] = ()
    limited_by: str = ""
    """What leaves less than the machine has, with its limit: a control group, or RLIMIT_AS."""
    notice: str = ""
    """That contexts get less than usual, and why; empty when they do not."""
    residence: Residence | None = None
    """How it is seated where it does not fit whole; `weights_bytes` is what is in memory then."""
    step_bytes: int = 0
    """Weights that are read from the disk for one token, at most."""
    tokens_per_s: float | None = None
    """What the disk's measured rate allows then, if all of them are read; None: never measured."""
    contexts: Reading | None = None
    """What reading a context costs that does not fit; None: it has to fit."""
    streamed_context_tokens: int = 0
    """The longest context of which layers are read from the disk with every token, slowly."""

    @property
    def longest_tokens(self) -> int:
        """The longest context, in memory or read from the disk."""
        return max(self.max_context_tokens, self.streamed_context_tokens)


class QuoteView(Struct, frozen=True, kw_only=True):
    """What asking a model now would cost, seconds, from measured costs; None: never measured.

    `swap_s` of a model never seated is the mean of the others. `prompt_tokens` are counted when a
    worker has the tokenizer, else four characters a token. `stored_tokens` need no prefill.
    """

    model: str
    fits: bool
    reason: str = ""
    seated: bool = False
    queue_s: float = 0.0
    swap_s: float | None = None
    restore_s: float | None = None
    prefill_s: float | None = None
    prompt_tokens: int = 0
    stored_tokens: int = 0
    exact: bool = False
    """`prompt_tokens` were counted, not estimated."""
    streamed: StreamedView | None = None
    """How it would have the seat, or has it; None where all of it is in memory."""


class ReleaseView(Struct, frozen=True, kw_only=True):
    """What giving the seat up did. `released` is the model that held it, None if nobody did."""

    released: str | None
    sessions_checkpointed: int = 0
    bytes_written: int = 0
    total_s: float = 0.0
    available_before: int = 0
    available_after: int = 0
    until: float | None = None
    """Unix time before which requests do not seat a model again."""


class ReloadView(Struct, frozen=True, kw_only=True):
    """What reading the settings again changed: dotted names.

    `restart` are those that only a new daemon takes; `reseats`: the seated model's own settings
    changed, so it is swapped for itself, contexts first.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    reseats: bool = False


class WhyView(Struct, frozen=True, kw_only=True):
    """One swap with who caused it and what it cost. `outcome`: finished or failed.

    `target` is None where the seat was given up.
    """

    at: float
    outcome: str
    origin: str | None
    target: str | None
    client: str
    request_id: str
    model_asked: str
    agent: str = ""
    total_s: float | None = None
    bytes_written: int | None = None
    sessions_checkpointed: int | None = None
    reason: str = ""
