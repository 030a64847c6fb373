"""What a `generate` means for its session: what to run and what the session holds after it. Pure.

Decides only from the request, the model's record and the stored session; raises `HotseatError`
before anything has happened.
"""

from typing import Final

from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import is_session_name
from hotseat.protocol.link_orders import AppendInput, Input, TextInput, TokensInput, WholeInput
from hotseat.protocol.messages import Generate, Message, ToolCall
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.parts import Collected
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.conversation.framing import (
    Framing,
    appends_exactly,
    check_form,
    frame_turn,
    is_same_message,
)
from hotseat.supervisor.conversation.history import History, Stored

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})


class Intake(Struct, frozen=True, kw_only=True):
    """How to run a request. `added` are the messages this turn appends before the reply."""

    input: Input
    context: bytes = b""
    hint: bytes = b""
    base: History
    """History the turn builds on; empty when it starts over."""
    added: tuple[Message, ...]
    framing: Framing = Framing()


def check_generate(request: Generate) -> None:
    """Refuses what no session or model could make right."""
    inputs = [
        name
        for name in ("messages", "prompt", "tokens", "append")
        if getattr(request, name) is not None
    ]
    if len(inputs) != 1:
        given = ", ".join(inputs) or "none"
        raise HotseatError(
            "invalid_request",
            f"exactly one of messages, prompt, tokens or append is needed; given: {given}",
            field=inputs[-1] if inputs else "messages",
            given=inputs,
        )
    if inputs == ["append"] and request.session is None:
        raise HotseatError("invalid_request", "append needs a session; name one", field="session")
    if len(getattr(request, inputs[0])) == 0:
        text = f"{inputs[0]} is empty; give at least one token"
        raise HotseatError("invalid_request", text, field=inputs[0])
    if request.session is not None and not is_session_name(request.session):
        raise HotseatError(
            "invalid_request",
            f"session name {request.session!r} is not allowed; use letters, digits and "
            "._:@+- (at most 128, not starting with a dot)",
            field="session",
        )
    check_form(request)
    for field in ("messages", "append"):
        value = getattr(request, field)
        if isinstance(value, tuple):
            check_parts(field, value)
            check_results(field, value)


def check_results(field: str, messages: tuple[Message, ...]) -> None:
    """Refuses a second result of one call, before a swap is made for it.

    Results without their call are text, as often as they come.
    """
    first_of: dict[str, int] = {}
    known: frozenset[str | None] = frozenset()
    for index, message in enumerate(messages):
        if message.role == "assistant":
            first_of.clear()
            known = frozenset(call.id for call in message.tool_calls)
        call_id = message.tool_call_id
        if message.role != "tool" or not call_id or call_id not in known:
            continue
        first = first_of.setdefault(call_id, index)
        if first != index:
            raise HotseatError(
                "invalid_request",
                f"{field}[{index}]: a second result of call {call_id!r}, whose first "
                f"is {field}[{first}]; send one result for each call",
                field=field,
                message=index,
            )


def check_parts(field: str, messages: tuple[Message, ...]) -> None:
    """Refuses parts that no model of today takes."""
    for index, message in enumerate(messages):
        if not isinstance(message.content, tuple):
            continue
        for number, part in enumerate(message.content):
            if part.type != "text" or part.text is None:
                raise HotseatError(
                    "unsupported_content",
                    f"{field}[{index}].content[{number}]: parts of type {part.type!r} cannot be "
                    "taken: of a model only the part that reads text is loaded; send text",
                    field=field,
                    message=index,
                    part=number,
                    type=part.type,
                )


def plan_turn(request: Generate, record: ModelRecord, stored: Stored | None) -> Intake:
    """Turns a checked request into what the worker runs, given the session it names."""
    if request.expect_turn is not None:
        turn = stored.turn if stored else 0
        if turn != request.expect_turn:
            raise HotseatError(
                "session_conflict",
                f"session is at turn {turn}, not {request.expect_turn}; read it and decide",
                field="expect_turn",
                turn=turn,
            )
    held = None
    if stored is not None and not (request.rerender and request.append is None):
        held = stored.history.framing
    framing = frame_turn(request, record, held, stored.turn if stored else 0)
    return structs.replace(_plan_input(request, record, stored, framing), framing=framing)


def _plan_input(
    request: Generate, record: ModelRecord, stored: Stored | None, framing: Framing
) -> Intake:
    if request.tokens is not None:
        return _plan_tokens(request.tokens, request, stored)
    if request.prompt is not None:
        return _plan_prompt(request.prompt, request, stored)
    if isinstance(request.append, str):
        return _plan_text(request.append, stored, is_anew=request.rerender)
    messages = request.messages if request.messages is not None else request.append
    assert isinstance(messages, tuple)  # noqa: S101 - check_generate saw exactly one input
    if record.template.mode == "raw":
        raise HotseatError(
            "unsupported_feature",
            f"{record.name} has no chat template; send prompt or tokens, and append text",
            field="messages" if request.append is None else "append",
        )
    is_exact = appends_exactly(record, framing, _last_reply(stored))
    if request.append is None:
        return _plan_whole(messages, request, stored, is_exact=is_exact)
    return _plan_append(messages, request, stored, is_exact=is_exact)


def _plan_tokens(tokens: tuple[int, ...], request: Generate, stored: Stored | None) -> Intake:
    """Whole token sequences; in a session they have to continue what it holds."""
    packed = pack_tokens(tokens)
    added = (Message(role="user", content=None),)
    if stored is None or request.rerender:
        return Intake(input=TokensInput(tokens=packed), base=History(raw=True), added=added)
    if not stored.history.raw:
        raise HotseatError(
            "session_diverged",
            "the session holds a chat, which token ids cannot continue; append messages, or set "
            "rerender to start over",
            field="tokens",
            turn=stored.turn,
        )
    continues = packed.startswith(stored.context) and len(packed) > len(stored.context)
    if stored.stale or not continues:
        raise HotseatError(
            "session_diverged",
            "tokens do not continue what the session holds; set rerender to start over",
            field="tokens",
            turn=stored.turn,
        )
    return Intake(
        input=TokensInput(tokens=packed[len(stored.context) :]),
        context=stored.context,
        hint=stored.hint,
        base=stored.history,
        added=added,
    )


def _plan_prompt(text: str, request: Generate, stored: Stored | None) -> Intake:
    """A whole text; in a session it has to begin with what the session holds."""
    if stored is None or request.rerender:
        added = (Message(role="user", content=text),)
        return Intake(input=TextInput(text=text), base=History(raw=True), added=added)
    held = _held_text(stored)
    if held is None or not text.startswith(held) or text == held:
        raise HotseatError(
            "session_diverged",
            "prompt does not begin with what the session holds; append only the new text, or set "
            "rerender to start over",
            field="prompt",
            turn=stored.turn,
        )
    return _plan_text(text[len(held) :], stored, is_anew=False)


def _plan_text(text: str, stored: Stored | None, *, is_anew: bool) -> Intake:
    """Raw text after what a session holds, or the first of a new one."""
    added = (Message(role="user", content=text),)
    if stored is None:
        return Intake(input=TextInput(text=text), base=History(raw=True), added=added)
    if not stored.history.raw:
        raise HotseatError(
            "session_diverged",
            "the session holds a chat; append messages instead of text",
            field="append",
            turn=stored.turn,
        )
    if stored.is_in_step and not is_anew:
        return Intake(
            input=TextInput(text=text),
            context=stored.context,
            hint=stored.hint,
            base=stored.history,
            added=added,
        )
    held = _held_text(stored)
    if held is None:
        raise HotseatError(
            "session_diverged",
            "the session was given token ids, which cannot be read as text again; send prompt or "
            "tokens with rerender to start over",
            field="append",
            turn=stored.turn,
        )
    return Intake(input=TextInput(text=held + text), base=stored.history, added=added)


def _held_text(stored: Stored) -> str | None:
    """All text of a raw session; None if it is a chat or was given token ids."""
    messages = stored.history.messages
    if not stored.history.raw or any(entry.content is None for entry in messages):
        return None
    return "".join(_text_of(entry) for entry in messages)


def _plan_whole(
    messages: tuple[Message, ...], request: Generate, stored: Stored | None, *, is_exact: bool
) -> Intake:
    """A whole conversation; in a session it has to begin with what the session holds."""
    if stored is None or request.rerender:
        context = stored.context if stored and stored.same_tokenizer else b""
        hint = stored.hint if context and stored else b""
        return Intake(
            input=WholeInput(messages=messages),
            context=context,
            hint=hint,
            base=History(),
            added=messages,
        )
    held = stored.history.messages
    repeated = zip(messages, held, strict=False)
    is_repeated = all(is_same_message(given, known) for given, known in repeated)
    if stored.history.raw or not is_repeated or len(messages) <= len(held):
        raise HotseatError(
            "session_diverged",
            "messages do not begin with what the session holds; append only the new ones, or set "
            "rerender to replace its history",
            field="messages",
            turn=stored.turn,
            messages=len(held),
        )
    return _plan_append(messages[len(held) :], request, stored, is_exact=is_exact)


def _plan_append(
    messages: tuple[Message, ...], request: Generate, stored: Stored | None, *, is_exact: bool
) -> Intake:
    """New messages after what the session holds."""
    if stored is None or not stored.history.messages:
        return Intake(input=WholeInput(messages=messages), base=History(), added=messages)
    if stored.history.raw:
        raise HotseatError(
            "session_diverged",
            "the session holds raw text; append text",
            field="append",
            turn=stored.turn,
        )
    is_whole = request.append is None  # what was held stands before it, its system text too
    added = messages if is_whole or request.rerender else _without_system(messages, stored)
    if is_exact and stored.is_in_step and not request.rerender:
        return Intake(
            input=AppendInput(messages=added, calls=_open_calls(stored)),
            context=stored.context,
            hint=stored.hint,
            base=stored.history,
            added=added,
        )
    same = stored.same_tokenizer
    return Intake(
        input=WholeInput(messages=(*stored.history.messages, *added)),
        context=stored.context if same else b"",
        hint=stored.hint if same else b"",
        base=stored.history,
        added=added,
    )


def _last_reply(stored: Stored | None) -> Message | None:
    messages = stored.history.messages if stored is not None else ()
    return messages[-1] if messages and messages[-1].role == "assistant" else None


def _open_calls(stored: Stored) -> tuple[ToolCall, ...]:
    """Calls that the context ends with: results that come now are theirs."""
    reply = _last_reply(stored)
    return () if reply is None else reply.tool_calls


def _without_system(messages: tuple[Message, ...], stored: Stored) -> tuple[Message, ...]:
    """System text is fixed when a session is created: repeating it is fine, changing it is not.

    Behind another message it is a reminder at that place.
    """
    held = [_text_of(entry) for entry in stored.history.messages if entry.role in _SYSTEM_ROLES]
    kept: list[Message] = []
    for message in messages:
        if message.role not in _SYSTEM_ROLES or kept:
            kept.append(message)
        elif _text_of(message) not in held:
            raise HotseatError(
                "session_diverged",
                "system text is fixed when a session is created; set rerender to change it, or "
                "send a reminder behind another message",
                field="append",
                turn=stored.turn,
            )
    if not kept:
        text = "append holds nothing but the known system text; add a message"
        raise HotseatError("invalid_request", text, field="append")
    return tuple(kept)


def _text_of(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text or "" for part in message.content or ())


def history_after(intake: Intake, reply: Collected) -> History:
    """What the session holds once the reply is part of it."""
    answer = Message(
        role="assistant",
        content=reply.text,
        tool_calls=reply.tool_calls,
        reasoning=reply.reasoning or None,
    )
    messages = (*intake.base.messages, *intake.added, answer)
    return History(raw=intake.base.raw, messages=messages, framing=intake.framing)
