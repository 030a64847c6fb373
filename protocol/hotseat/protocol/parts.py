"""Output as a sequence of parts: joined, measured, cut, summed up. Pure.

The extent of a part is a number of units: characters of its text or arguments, and one for the
head (id and name) of a tool call. For plain text, units are characters.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.messages import ToolCall
from hotseat.protocol.replies import ChunkPart, Done


class Collected(Struct, frozen=True, kw_only=True):
    """What a completion consists of once it is complete."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_parse_error: str | None = None


def text_part(text: str) -> tuple[ChunkPart, ...]:
    """One part of text; none for the empty text."""
    return (ChunkPart(type="text", text=text),) if text else ()


def units_of(parts: Iterable[ChunkPart]) -> int:
    """Extent of parts; independent of how they are joined."""
    return sum(_units(part) for part in parts)


def join_parts(parts: Iterable[ChunkPart]) -> tuple[ChunkPart, ...]:
    """The same output in the fewest parts."""
    joined: list[ChunkPart] = []
    for part in parts:
        last = joined[-1] if joined else None
        if _units(part) == 0:
            continue
        if last is not None and _continues(last, part):
            joined[-1] = replace(
                last,
                text=last.text + part.text,
                arguments_delta=_added(last.arguments_delta, part.arguments_delta),
            )
        else:
            joined.append(part)
    return tuple(joined)


def split_parts(
    parts: Iterable[ChunkPart], units: int
) -> tuple[tuple[ChunkPart, ...], tuple[ChunkPart, ...]]:
    """What makes up the first `units` of the output, and the rest."""
    head: list[ChunkPart] = []
    rest: list[ChunkPart] = []
    for part in parts:
        extent = _units(part)
        if units >= extent:
            head.append(part)
        elif units <= 0:
            rest.append(part)
        else:
            first, second = _split(part, units)
            head.append(first)
            rest.append(second)
        units -= extent
    return tuple(head), tuple(rest)


def collect_parts(parts: Iterable[ChunkPart]) -> Collected:
    """Text, reasoning and calls, each joined."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, ToolCall] = {}
    error: str | None = None
    for part in parts:
        error = error or part.tool_parse_error
        match part.type:
            case "text":
                text.append(part.text)
            case "reasoning":
                reasoning.append(part.text)
            case "tool_call":
                index = part.index or 0
                call = calls.get(index) or ToolCall(name="", arguments="")
                calls[index] = replace(
                    call,
                    id=part.id or call.id,
                    name=part.name or call.name,
                    arguments=call.arguments + (part.arguments_delta or ""),
                )
    return Collected(
        text="".join(text),
        reasoning="".join(reasoning),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        tool_parse_error=error,
    )


def collected_of(done: Done) -> Collected:
    """The output that a done tells."""
    return Collected(
        text=done.text,
        reasoning=done.reasoning,
        tool_calls=done.tool_calls,
        tool_parse_error=done.tool_parse_error,
    )


def missing_parts(shown: Sequence[ChunkPart], whole: Collected) -> tuple[ChunkPart, ...] | None:
    """What `whole` has behind `shown`; None if `shown` is not its beginning.

    Kinds are compared apart, since `whole` does not tell their order: reasoning comes first, calls
    last.
    """
    have = collect_parts(shown)
    if not whole.text.startswith(have.text) or not whole.reasoning.startswith(have.reasoning):
        return None
    missing: list[ChunkPart] = []
    reasoning = whole.reasoning[len(have.reasoning) :]
    if reasoning:
        missing.append(ChunkPart(type="reasoning", text=reasoning))
    missing.extend(text_part(whole.text[len(have.text) :]))
    if len(have.tool_calls) > len(whole.tool_calls):
        return None
    for index, call in enumerate(whole.tool_calls):
        known = have.tool_calls[index] if index < len(have.tool_calls) else None
        if known is None:
            missing.append(
                ChunkPart(
                    type="tool_call",
                    index=index,
                    id=call.id,
                    name=call.name,
                    arguments_delta=call.arguments,
                )
            )
        elif (known.id, known.name) != (call.id, call.name) or not call.arguments.startswith(
            known.arguments
        ):
            return None
        elif len(known.arguments) < len(call.arguments):
            rest = call.arguments[len(known.arguments) :]
            missing.append(ChunkPart(type="tool_call", index=index, arguments_delta=rest))
    return tuple(missing)


def _units(part: ChunkPart) -> int:
    return (part.name is not None) + len(part.text) + len(part.arguments_delta or "")


def _continues(last: ChunkPart, part: ChunkPart) -> bool:
    if last.type != part.type or last.tool_parse_error != part.tool_parse_error:
        return False
    return part.type != "tool_call" or (last.index == part.index and part.name is None)


def _added(left: str | None, right: str | None) -> str | None:
    return None if left is None and right is None else (left or "") + (right or "")


def _split(part: ChunkPart, units: int) -> tuple[ChunkPart, ChunkPart]:
    if part.type != "tool_call":
        return replace(part, text=part.text[:units]), replace(part, text=part.text[units:])
    at = units - (part.name is not None)
    arguments = part.arguments_delta or ""
    first = replace(part, arguments_delta=arguments[:at])
    return first, ChunkPart(type="tool_call", index=part.index, arguments_delta=arguments[at:])
