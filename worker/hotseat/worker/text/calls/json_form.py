"""Calls written as JSON: objects with a name and arguments, or a name with an object behind it.

JSON ends at its closing brace, so a mark inside one of its strings ends nothing. Must not know
streams.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from hotseat.protocol.messages import Tool
from hotseat.worker.text.calls.call import (
    CallError,
    CallNotBegunError,
    CallUnfinishedError,
    Found,
    ParsedCall,
    make_call,
    schema_of,
    skip_space,
)
from hotseat.worker.text.calls.values import DECODER, MismatchError, names_of_arguments

_FENCE: Final = re.compile(r"```[a-z]*[ \t]*\n")
_FENCE_END: Final = re.compile(r"```\s*")
_NEXT: Final = re.compile(r"[,;]\s*(?=[\[{])")
"""Between two objects that stand in no list."""
_NAMES: Final = ("name", "function", "tool_name")
_ARGUMENTS: Final = ("arguments", "parameters")
_BESIDE: Final = frozenset({"type", "id", "tool_call_id", "index"})
"""What may stand in an object beside name and arguments."""


def read_objects(body: str, tools: Sequence[Tool]) -> Found:
    """Calls of one or several objects or lists of them; a code fence around them is no part."""
    fence = _FENCE.match(body, skip_space(body, 0))
    at = skip_space(body, fence.end() if fence else 0)
    if at < len(body) and body[at] not in "[{":
        raise CallNotBegunError("the call does not begin with a JSON object", at)
    calls: list[ParsedCall] = []
    while at < len(body) and (body[at] in "[{" or not calls):
        value, end_at = read_json(body, at)
        calls.extend(_calls_in(value, tools, at))
        at = skip_space(body, end_at)
        if separated := _NEXT.match(body, at):
            at = separated.end()
    if not calls:
        raise CallUnfinishedError("the call is empty", at)
    if fence:
        closing = _FENCE_END.match(body, at)
        if closing is None:
            raise _cut_or_wrong(body, at, "something else than the end of the code fence follows")
        at = closing.end()
    return calls, at


def read_named(
    body: str,
    tools: Sequence[Tool],
    *,
    head: re.Pattern[str],
    tail: re.Pattern[str],
    ends_before_cut: bool = False,
) -> Found:
    """Calls of a `head` with groups `name` and maybe `id`, JSON of the arguments, and a `tail`.

    `ends_before_cut`: whole calls count although the last one is not.
    """
    at = skip_space(body, 0)
    calls: list[ParsedCall] = []
    while opening := head.match(body, at):
        found = opening.groupdict()
        try:
            arguments, end_at = read_json(body, opening.end())
        except CallUnfinishedError:
            if calls and ends_before_cut:
                break
            raise
        closing = tail.match(body, end_at)
        if closing is None:
            raise _cut_or_wrong(body, end_at, "something stands behind the arguments")
        calls.append(_placed(at, found["name"], arguments, tools, found.get("id") or ""))
        at = skip_space(body, closing.end())
    if not calls:
        raise _cut_or_wrong(body, at, "the call does not begin as this model's calls do")
    return calls, at


def read_json(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at `at`, and where it ends. Raises CallError."""
    at = skip_space(text, at)
    try:
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
        kind = CallUnfinishedError if is_cut else CallError
        raise kind(f"the JSON cannot be read: {error.msg}", error.pos) from None
    except MismatchError as error:
        raise CallError(f"the JSON cannot be read: {error}", at) from error
    except RecursionError:
        raise CallError("the JSON is nested too deeply", at) from None


def _calls_in(value: Any, tools: Sequence[Tool], at: int) -> Iterator[ParsedCall]:
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            raise CallError("the call is no JSON object", at)
        yield _call_of(item, tools, at)


def _call_of(item: dict[str, Any], tools: Sequence[Tool], at: int) -> ParsedCall:
    chosen = item.get("id", item.get("tool_call_id", ""))
    inner = item.get("function")
    if isinstance(inner, dict):
        if item.keys() & {"name", "tool_name", *_ARGUMENTS}:
            raise CallError("a part of the call stands beside its `function` object", at)
        item = inner
    names = {item[key] for key in _NAMES if isinstance(item.get(key), str)}
    if len(names) > 1:
        raise CallError("the call names two functions", at)
    name = next(iter(names), None)
    given = [key for key in _ARGUMENTS if key in item]
    if len(given) > 1:
        raise CallError("the call has arguments twice", at)
    rest = set(item) - set(_NAMES) - set(_ARGUMENTS) - _BESIDE
    schema = schema_of(name or "", tools)
    if name and (rest if not given else rest & names_of_arguments(schema, schema)):
        raise CallError("the arguments stand beside the name instead of in `arguments`", at)
    return _placed(at, name, item[given[0]] if given else None, tools, chosen)


def _placed(at: int, name: Any, arguments: Any, tools: Sequence[Tool], chosen: Any) -> ParsedCall:
    try:
        return make_call(name, arguments, tools, chosen)
    except CallError as error:
        raise CallError(str(error), at) from error


def _cut_or_wrong(text: str, at: int, reason: str) -> CallError:
    if skip_space(text, at) >= len(text):
        return CallUnfinishedError("the call is not closed", at)
    return CallError(reason, at)


KIMI_K2: Final = partial(
    read_named,
    head=re.compile(
        r"(?:<\|tool_call_begin\|>)?\s*(?P<id>(?:functions\.)?(?P<name>[^\s<>:]+):\d+)\s*"
        r"<\|tool_call_argument_begin\|>"
    ),
    tail=re.compile(r"\s*(?:<\|tool_call_end\|>|$)"),
)
DEEPSEEK: Final = partial(
    read_named,
    head=re.compile(
        "(?:<｜tool▁call▁begin｜>)?(?:function<｜tool▁sep｜>(?P<name>[^\\s<]+)\\s*```json\\s*)"  # noqa: RUF001
    ),
    tail=re.compile("\\s*```\\s*<｜tool▁call▁end｜>"),  # noqa: RUF001
)
DEEPSEEK_PLAIN: Final = partial(
    read_named,
    head=re.compile("(?:<｜tool▁call▁begin｜>)?(?P<name>[^\\s<]+)<｜tool▁sep｜>"),  # noqa: RUF001
    tail=re.compile("\\s*<｜tool▁call▁end｜>"),  # noqa: RUF001
)
_MISTRAL_NAMED: Final = partial(
    read_named,
    head=re.compile(
        r"(?:\[TOOL_CALLS\])?\s*(?P<name>[\w.-]+)\s*"
        r"(?:\[CALL_ID\](?P<id>\w+)\s*)?\[ARGS\]"
    ),
    tail=re.compile(r""),
    ends_before_cut=True,
)


def read_mistral(body: str, tools: Sequence[Tool]) -> Found:
    """A list of objects, or `name[ARGS]{...}` as often as there are calls."""
    start = skip_space(body, 0)
    if body[start : start + 1] in ("[", "{"):
        return read_objects(body, tools)
    return _MISTRAL_NAMED(body, tools)
