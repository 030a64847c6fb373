"""What clients send: one typed struct per kind. Pure; limits that need no daemon stand here."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hotseat.protocol.limits import MAX_LOGPROBS, MAX_PRIORITY, MAX_STOP_STRINGS

Natural = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**53 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Agent = Annotated[str, Meta(max_length=128)]
"""A label, not an identity: it opens nothing and protects nothing."""
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Part(Struct, frozen=True, kw_only=True):
    """One part of a message. Only `text` can be taken by the models of today."""

    type: str
    text: str | None = None


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call the assistant made; `arguments` is JSON text."""

    id: str = ""
    name: str
    arguments: str = "{}"


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a conversation."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


class FunctionSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function the model may call. `parameters` is a JSON schema of type object."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.\-]{1,128}\Z")]
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False
    """Calls follow `parameters` to the letter, also where the model chooses whether to call."""


class Tool(Struct, frozen=True, kw_only=True):
    """An entry of `tools`; functions are the only type."""

    type: Literal["function"] = "function"
    function: FunctionSpec


class NamedTool(Struct, frozen=True, kw_only=True):
    """A `tool_choice` that leaves one function."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class ResponseFormat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the answer has to be; `schema` belongs to `json_schema`, and only to it."""

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is drawn. What is not given is the model's own choice.

    A given `temperature` of 0 is greedy, a given 0 means "off" elsewhere. The model's own is what
    its settings say, else its `generation_config.json`, else greedy and off.
    """

    temperature: Annotated[float, Meta(ge=0.0, le=10.0)] | None = None
    top_p: Probability | None = None
    top_k: Natural | None = None
    min_p: Probability | None = None
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.0, le=10.0)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    logit_bias: tuple[tuple[TokenId, Annotated[float, Meta(ge=-100.0, le=100.0)]], ...] = ()


class ClientInfo(Struct, frozen=True, kw_only=True):
    """Who connects, for logs and causes."""

    name: Annotated[str, Meta(max_length=128)] = "unknown"
    version: Annotated[str, Meta(max_length=64)] = ""
    pid: Natural = 0


class Hello(Struct, frozen=True, kw_only=True):
    """First message on a connection. `protocol` is the newest version the client speaks."""

    protocol: Natural
    client: ClientInfo = ClientInfo()
    token: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")] | None = None


class Ping(Struct, frozen=True):
    """Sent each second; three missing ones mean the client vanished."""


class Generate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Work. Exactly one input: messages, prompt, tokens, or session with append."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    tokens: tuple[TokenId, ...] | None = None
    session: str | None = None
    append: tuple[Message, ...] | str | None = None
    """New messages, or raw text to continue for a model without a chat template."""
    expect_turn: Natural | None = None
    queue: bool = False
    rerender: bool = False
    persist: bool = True
    max_tokens: Natural | None = None
    """0 computes the prompt, keeps it and says nothing."""
    sampling: Sampling = Sampling()
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...],
        Meta(max_length=MAX_STOP_STRINGS),
    ] = ()
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] = 0
    swap: Literal["auto", "wait", "never"] = "auto"
    on_vanish: Literal["cancel", "finish", "hold"] | None = None
    credit_bytes: Positive | None = None
    """First grant of the stream; without it the stream starts with 256 KiB."""
    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    """Order among the requests of one model; a step outweighs half a minute of waiting."""
    deadline_s: Annotated[float, Meta(gt=0.0)] | None = None
    """Seconds from accept; then it ends with what it has, or `deadline_exceeded`."""
    hold_s: Annotated[float, Meta(ge=0.0)] | None = None
    """The next turn of this agent comes within that time: the seat may wait for it a moment."""
    yield_: bool | None = msgspec.field(default=None, name="yield")
    """This agent has no next turn for now: nobody waits for it."""
    next_model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """What this agent asks next; it is prepared when nobody else asks for something else."""
    tools: tuple[Tool, ...] | None = None
    """Functions the model may call; with a session they are fixed by its first turn."""
    tool_choice: ToolChoice | None = None
    """`auto` unless given; `required` and a named tool force a call, `none` forbids it."""
    response_format: ResponseFormat | None = None
    parallel_calls: bool | None = None
    """False: the answer ends with its first call."""
    template_args: dict[str, Any] | None = None
    """Arguments of the chat template (`enable_thinking`, ...); fixed like `tools`."""
    agent: Agent = ""
    """Which of a client's agents asks: they are told apart in queue, causes and waits."""
    protocol: Natural = 1
    """The version of the frame it came in: the daemon notes it here, whatever was sent."""


class Attach(Struct, frozen=True, kw_only=True):
    """Join request `request_id` of the same token from completion token `offset_tokens` on."""

    request_id: str
    offset_tokens: Natural = 0
    credit_bytes: Positive | None = None


class Cancel(Struct, frozen=True, kw_only=True):
    """End request `request_id` of the same token; its KV is kept."""

    request_id: str


class Credit(Struct, frozen=True, kw_only=True):
    """Grant `grant_bytes` more on the stream whose request id is in the envelope."""

    grant_bytes: Positive


class Status(Struct, frozen=True):
    """Ask for the state of seat, worker, queue and memory."""


class Models(Struct, frozen=True):
    """Ask for the registered models."""


class Sessions(Struct, frozen=True, kw_only=True):
    """Ask for sessions, of one model, or one session with its messages."""

    model: str | None = None
    session: str | None = None


class SessionDelete(Struct, frozen=True, kw_only=True):
    """Remove a session and what only it used."""

    model: str
    session: str


class SessionFork(Struct, frozen=True, kw_only=True):
    """Make session `to` of what `session` was after turn `at_turn` (None: its last one).

    Both share what is stored; nothing is copied.
    """

    model: str
    session: str
    to: str
    at_turn: Natural | None = None


class SessionCopy(Struct, frozen=True, kw_only=True):
    """Make session `to` of model `to_model` with the conversation of a session of `model`.

    The text of one model for another one: calls and results stay, reasoning is left out. Nothing of
    the KV can be shared, the next turn renders and computes the conversation; `quote` tells first.
    """

    model: str
    session: str
    to_model: str
    to: str


class SessionRewind(Struct, frozen=True, kw_only=True):
    """Cut a session back to what it was after `turn`; later turns are gone."""

    model: str
    session: str
    turn: Natural


class SessionReplace(Struct, frozen=True, kw_only=True):
    """Put another history in place of a session's, for instance a summary of it.

    `messages`, or `text` for a model without a chat template. Counts as a turn; the next one
    renders the new history and reuses what prefix of it is stored.
    """

    model: str
    session: str
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    expect_turn: Natural | None = None


class SessionPin(Struct, frozen=True, kw_only=True):
    """Keep what a session has on disk from being evicted, or let it be evicted again."""

    model: str
    session: str
    pinned: bool = True


class Count(Struct, frozen=True, kw_only=True):
    """How many tokens would a request have? Exactly one input, as in `generate`.

    Answered by the seated worker for its model, for any other by the standby. Changes nothing.
    """

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    tokens: tuple[TokenId, ...] | None = None
    session: str | None = None
    append: tuple[Message, ...] | str | None = None
    tools: tuple[Tool, ...] | None = None
    template_args: dict[str, Any] | None = None
    render: bool = False
    """Answer with the text of the prompt too."""


class Disk(Struct, frozen=True):
    """Ask how much KV is on disk, whose it is and within which limits."""


class KvVerify(Struct, frozen=True):
    """Read every KV file and check it against its digests; damaged ones are put aside.

    Takes as long as reading them takes.
    """


class KvGc(Struct, frozen=True, kw_only=True):
    """Remove what no session needs and what no registered model can use."""

    dry_run: bool = False


class Plan(Struct, frozen=True, kw_only=True):
    """Ask for the memory plan of a model, without loading it.

    With `ram_bytes`, on a machine of that size where nothing else runs; `working_set_bytes` is
    what Metal would allow there.
    """

    model: str
    ram_bytes: Positive | None = None
    working_set_bytes: Positive | None = None


class Events(Struct, frozen=True, kw_only=True):
    """Subscribe. `since` is the last sequence number seen; None starts with what comes next."""

    since: Natural | None = None
    topics: tuple[str, ...] = ()
    """Prefixes of event names ("swap", "request"); empty means all."""
    credit_bytes: Positive | None = None


class Swap(Struct, frozen=True, kw_only=True):
    """Seat a model. The same request id twice is one swap.

    `unload_others`: if memory is short, models that Ollama and LM Studio have loaded are unloaded
    first. `force`: it is seated though less is available than it needs, as long as it fits the
    machine.
    """

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    mode: Literal["auto", "process", "in-process"] = "auto"
    force: bool = False
    unload_others: bool = False
    agent: Agent = ""


class Release(Struct, frozen=True, kw_only=True):
    """Checkpoint every context, empty the seat, stay up.

    With `for_s`, requests that would make a swap happen are refused with `seat_released` until
    then; without it the next request seats its model again. With `model`, nothing happens and the
    answer is `not_seated` unless that model holds the seat when its turn comes.
    """

    model: str | None = None
    for_s: Annotated[float, Meta(gt=0.0, le=7 * 24 * 3600.0)] | None = None


class Quote(Struct, frozen=True, kw_only=True):
    """What would it cost to ask each of these models now? Changes nothing.

    With `session`, for its next turn; with `messages`, for that conversation.
    """

    models: tuple[str, ...]
    session: str | None = None
    messages: tuple[Message, ...] | None = None


class Why(Struct, frozen=True, kw_only=True):
    """Who caused the last swaps, and what they cost."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 10


class Reload(Struct, frozen=True):
    """Read the settings again. A wrong file is refused and the old settings stay."""


class Shutdown(Struct, frozen=True):
    """End the daemon in order: drain, checkpoint, stop the worker."""


ClientMessage = (
    Hello
    | Ping
    | Generate
    | Attach
    | Cancel
    | Credit
    | Status
    | Models
    | Sessions
    | SessionDelete
    | SessionFork
    | SessionCopy
    | SessionRewind
    | SessionReplace
    | SessionPin
    | Count
    | Disk
    | KvVerify
    | KvGc
    | Plan
    | Events
    | Swap
    | Release
    | Quote
    | Why
    | Shutdown
    | Reload
)
