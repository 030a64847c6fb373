"""Conversations as clients send them, folded into what a chat template takes. Pure.

What stands before a reply is folded without looking at what comes after it: a folded history is a
prefix of its continuation, and a turn that is appended folds as it does in the whole. Nothing is
moved to another place of the conversation; what a template has no place for becomes marked text
of the user turn beside it. Must not know tokens or templates, only what the probe found.
"""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.calls.writing import write_calls

_ID_LETTERS: Final = 9
_NO_RESULT: Final = "This call has no result."
_NO_TEXT: Final = "This reply has no text."
_GO_ON: Final = "Go on."
_BLANK_LINE: Final = "\n\n"


class _Entry(Struct, frozen=True):
    """A message on its way; the text of a note joins the user turn beside it."""

    message: Message
    is_note: bool = False


class _Span(Struct, frozen=True):
    """A reply, if there is one, and everything that came in before the next reply."""

    reply: Message | None
    rest: tuple[tuple[int, Message], ...]
    """With their places in the conversation, for errors."""


def fold_history(
    messages: Sequence[Message], probe: TemplateProbe, *, is_asked: bool = True, skipped: int = 0
) -> tuple[Message, ...]:
    """The messages that the template of `probe` is given.

    `is_asked`: a reply comes next. `skipped`: how many leading messages the client did not send;
    places in errors are counted behind them. Raises `HotseatError` for parts that are no text and
    for two results of one call.
    """
    plain = [_flat(message, index - skipped) for index, message in enumerate(messages)]
    spans = _spans(plain, skipped)
    entries: list[_Entry] = []
    for number, span in enumerate(spans):
        is_open = not is_asked and number == len(spans) - 1 and not span.rest
        entries += _fold_span(span, probe, is_open=is_open)
    if probe.null_content or "text_with_calls" in probe.folds:
        entries = [part for entry in entries for part in _apart(entry, probe.null_content)]
    return tuple(_in_turns(entries, probe.folds, is_asked=is_asked))


def _flat(message: Message, index: int) -> Message:
    """One role for system text; content as one string."""
    for position, call in enumerate(message.tool_calls):
        _check_arguments(call, f"messages[{index}].tool_calls[{position}].arguments")
    role = "system" if message.role == "developer" else message.role
    return structs.replace(message, role=role, content=_joined_text(message, index))


def _joined_text(message: Message, index: int) -> str:
    """Text of a message; parts are joined, anything but text is refused."""
    content = message.content
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    for position, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise HotseatError(
                "unsupported_content",
                f"messages[{index}].content[{position}]: the model takes text only, not "
                f"{part.type!r}",
                message=index,
                part=position,
                type=part.type,
            )
    return "".join(part.text or "" for part in content)


def _check_arguments(call: ToolCall, path: str) -> None:
    try:
        arguments = json.loads(call.arguments or "{}")
    except json.JSONDecodeError as error:
        raise HotseatError("invalid_request", f"{path}: not JSON ({error})", path=path) from error
    except (ValueError, RecursionError) as error:
        text = f"{path}: JSON that cannot be read: nested too deeply, or a number too long"
        raise HotseatError("invalid_request", text, path=path) from error
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        text = f"{path}: holds half of a character (a lone surrogate); send whole ones"
        raise HotseatError("invalid_request", text, path=path) from error
    except (ValueError, RecursionError) as error:
        text = f"{path}: holds NaN or an infinite number, or is nested too deeply; send JSON"
        raise HotseatError("invalid_request", text, path=path) from error
    if not isinstance(arguments, dict):
        # Not the value itself: errors are logged and journalled, conversations are not.
        kind = type(arguments).__name__
        raise HotseatError("invalid_request", f"{path}: not a JSON object but {kind}", path=path)


def _spans(messages: Sequence[Message], skipped: int) -> list[_Span]:
    spans: list[_Span] = []
    reply: Message | None = None
    rest: list[tuple[int, Message]] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            rest.append((index - skipped, message))
            continue
        if reply is not None or rest:
            spans.append(_Span(reply, tuple(rest)))
        reply, rest = message, []
    spans.append(_Span(reply, tuple(rest)))
    return spans


def _fold_span(span: _Span, probe: TemplateProbe, *, is_open: bool) -> list[_Entry]:
    """The reply, results of its calls in their order, then the rest where it stands.

    `is_open`: results of the calls are still to come.
    """
    calls = () if span.reply is None else span.reply.tool_calls
    results = pair_results(calls, span.rest)
    paired = {index for index, _ in results.values()}
    entries = _fold_reply(span.reply, results, probe, is_open=is_open)
    is_leading = span.reply is None
    for number, (index, message) in enumerate(span.rest):
        if index in paired:
            continue
        if message.role == "tool":
            entries.append(_note(_marked_result(message)))
        elif message.role == "system":
            place = (
                ("system" if number == 0 else "several_system") if is_leading else "later_system"
            )
            entries += _fold_system(message, probe.folds, place)
        else:
            entries.append(_Entry(message))
        is_leading &= message.role == "system"
    return entries


def pair_results(
    calls: Sequence[ToolCall], messages: Sequence[tuple[int, Message]]
) -> dict[int, tuple[int, Message]]:
    """Results among `messages`, by the place of their call.

    By id first; results without an id, and those of calls without one, by name and then in order.
    Raises `HotseatError` if a call has two results.
    """
    found: dict[int, tuple[int, Message]] = {}
    unnamed: list[tuple[int, Message]] = []
    known: dict[str, deque[int]] = {}
    for place, call in enumerate(calls):
        if call.id:
            known.setdefault(call.id, deque()).append(place)
    for index, message in messages:
        if message.role != "tool":
            continue
        if message.tool_call_id not in known:
            unnamed.append((index, message))
            continue
        if not known[message.tool_call_id]:
            raise HotseatError(
                "invalid_request",
                f"messages[{index}].tool_call_id: that call has a result already; send one "
                "result for each call",
                field="tool_call_id",
                message=index,
            )
        found[known[message.tool_call_id].popleft()] = (index, message)
    _pair_unnamed(calls, unnamed, found)
    return found


def _pair_unnamed(
    calls: Sequence[ToolCall],
    messages: Sequence[tuple[int, Message]],
    found: dict[int, tuple[int, Message]],
) -> None:
    """Adds results that name none of the calls; those with an id are of calls without one."""
    waiting: defaultdict[tuple[bool, str | None], deque[int]] = defaultdict(deque)
    for place, call in enumerate(calls):
        if place not in found:
            for is_foreign in (False,) if call.id else (False, True):
                waiting[is_foreign, call.name].append(place)
                waiting[is_foreign, None].append(place)
    for index, message in messages:
        for name in dict.fromkeys((message.name, None)):
            takers = waiting[bool(message.tool_call_id), name]
            while takers and takers[0] in found:
                takers.popleft()
            if takers:
                found[takers.popleft()] = (index, message)
                break


def _fold_reply(
    reply: Message | None,
    results: dict[int, tuple[int, Message]],
    probe: TemplateProbe,
    *,
    is_open: bool,
) -> list[_Entry]:
    if reply is None:
        return []
    calls, folds = reply.tool_calls, probe.folds
    if "empty_replies" in folds and not (reply.content or calls):
        reply = structs.replace(reply, content=_reminder(_NO_TEXT))
    if "calls" in folds and calls:
        written = write_calls(calls, probe.tool_parser) or _joined(list(map(_marked_call, calls)))
        reply = structs.replace(reply, content=_joined([_text(reply), written]), tool_calls=())
    elif "call_ids" in folds:
        calls = tuple(_with_short_id(call, place) for place, call in enumerate(calls))
        reply = structs.replace(reply, tool_calls=calls)
    answers: dict[int, _Entry] = {}
    for place, call in enumerate(calls):
        if place in results:
            answers[place] = _answer(call, results[place][1], folds)
        elif "missing_results" in folds and not is_open:
            missing = Message(role="tool", content=_reminder(_NO_RESULT), tool_call_id=call.id)
            answers[place] = _answer(call, missing, folds)
    if "parallel_calls" not in folds or len(reply.tool_calls) < 2:  # noqa: PLR2004 - one call is alone
        return [_Entry(reply), *answers.values()]
    entries = []
    for place, call in enumerate(calls):
        alone = Message(role="assistant", content="", tool_calls=(call,))
        entries.append(_Entry(structs.replace(reply, tool_calls=(call,)) if not place else alone))
        entries += [answers[place]] if place in answers else []
    return entries


def _answer(call: ToolCall, result: Message, folds: Sequence[str]) -> _Entry:
    """A result as templates look for it: with the id and the name of its call."""
    named = structs.replace(
        result, tool_call_id=call.id or result.tool_call_id, name=result.name or call.name
    )
    return _note(_marked_result(named)) if "results" in folds else _Entry(named)


def _with_short_id(call: ToolCall, place: int) -> ToolCall:
    if len(call.id) == _ID_LETTERS and call.id.isalnum() and call.id.isascii():
        return call
    known = call.id or f"{place}:{call.name}:{call.arguments}"
    digest = hashlib.blake2b(known.encode()).hexdigest()[:_ID_LETTERS]
    return structs.replace(call, id=digest)


def _fold_system(message: Message, folds: Sequence[str], place: str) -> list[_Entry]:
    if place not in folds and "system" not in folds:
        return [_Entry(message)]
    return [_note(_reminder(_text(message)))] if message.content else []


def _apart(entry: _Entry, is_null: bool) -> list[_Entry]:  # noqa: FBT001 - of one fact, told above
    """Text of a reply before its calls, for templates that show one or the other."""
    message = entry.message
    if not message.tool_calls:
        return [entry]
    calls = _Entry(structs.replace(message, content=None if is_null else ""))
    if not message.content:
        return [calls]
    # Reasoning stays with the calls: that is where templates keep it.
    return [_Entry(structs.replace(message, tool_calls=(), reasoning=None)), calls]


def _in_turns(entries: Sequence[_Entry], folds: Sequence[str], *, is_asked: bool) -> list[Message]:
    """Notes join user turns, and turns follow each other as the template takes them."""
    done: list[Message] = []
    run: list[_Entry] = []
    for entry in entries:
        if entry.message.role == "user":
            run.append(entry)
            continue
        _end_run(done, run, folds)
        run = []
        if entry.message.role == "assistant":
            _make_way(done, folds)
        done.append(entry.message)
    _end_run(done, run, folds)
    if is_asked:
        _make_way(done, folds)
    return done


def _make_way(done: list[Message], folds: Sequence[str]) -> None:
    """A reply follows: where replies do not stand in a row, a user turn comes between."""
    if "assistant_turns" not in folds:
        return
    last = done[-1].role if done else "system"
    if last in ("assistant", "system"):
        done.append(Message(role="user", content=_reminder(_GO_ON)))


def _end_run(done: list[Message], run: Sequence[_Entry], folds: Sequence[str]) -> None:
    """User turns and notes that stand in a row become the turns that the template takes."""
    if not run:
        return
    if "user_after_results" in folds and done and done[-1].role == "tool":
        texts = [_in_result(entry) for entry in run]
        done[-1] = structs.replace(done[-1], content=_joined([_text(done[-1]), *texts]))
        return
    turns: list[Message] = []
    notes: list[str] = []
    for entry in run:
        if entry.is_note:
            notes.append(_text(entry.message))
            continue
        turns.append(_with_text(entry.message, [*notes, _text(entry.message)]))
        notes = []
    if notes and turns:
        turns[-1] = _with_text(turns[-1], [_text(turns[-1]), *notes])
    elif notes:
        turns = [Message(role="user", content=_joined(notes))]
    if "user_turns" in folds and len(turns) > 1:
        turns = [Message(role="user", content=_joined([_text(turn) for turn in turns]))]
    done += turns


def _with_text(message: Message, texts: Sequence[str]) -> Message:
    return message if len(texts) == 1 else structs.replace(message, content=_joined(texts))


def _joined(texts: Sequence[str]) -> str:
    return _BLANK_LINE.join(text for text in texts if text)


def _text(message: Message) -> str:
    return message.content if isinstance(message.content, str) else ""


def _note(text: str) -> _Entry:
    return _Entry(Message(role="user", content=text), is_note=True)


def _in_result(entry: _Entry) -> str:
    text = _text(entry.message)
    return text if entry.is_note else f"<user-message>\n{text}\n</user-message>"


def _reminder(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _marked_result(message: Message) -> str:
    facts = _facts(id=message.tool_call_id, name=message.name)
    return f"<tool-result{facts}>\n{_text(message)}\n</tool-result>"


def _marked_call(call: ToolCall) -> str:
    return f"<tool-call{_facts(id=call.id, name=call.name)}>\n{call.arguments}\n</tool-call>"


def _facts(**facts: Any) -> str:
    return "".join(f' {name}="{value}"' for name, value in facts.items() if value)
