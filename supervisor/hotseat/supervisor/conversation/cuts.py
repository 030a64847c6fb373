"""What is left of a session that is cut at a turn or given another history. Pure.

Knows turns, messages and token counts; must not know where sessions are stored.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message
from hotseat.supervisor.conversation.framing import Framing
from hotseat.supervisor.conversation.history import History, decode_history, encode_history

TOKEN_BYTES: Final = 4
UNFED: Final = 1
"""Tokens without KV behind an answer that ended full: the next turn computes the newest one."""


class TurnRow(Struct, frozen=True, kw_only=True):
    """One turn of a session: how long it was after it.

    `shared_tokens`: how many leading tokens of then the session still has. `reachable` False: its
    messages were replaced since, so that nobody can go back to it. `request`: the id of the request
    that made it.
    """

    turn: int
    tokens: int
    message_count: int
    at: float
    shared_tokens: int = 0
    reachable: bool = True
    request: str = ""


class SessionTurns(Struct, frozen=True, kw_only=True):
    """A session with its turns. `tokens` are packed, `messages` encoded.

    `stale`: the tokens are not those of the messages; the next turn renders them anew.
    """

    turn: int
    tokens: bytes
    messages: bytes
    hint: bytes
    closed: bool
    stale: bool
    turns: tuple[TurnRow, ...]


def reachable_turns(held: SessionTurns) -> list[TurnRow]:
    """Turns that can be gone back to, the present one included, first to last."""
    return [entry for entry in held.turns if entry.reachable and entry.turn <= held.turn]


def cut_at(held: SessionTurns, turn: int) -> SessionTurns:
    """What the session was after `turn`. Raises invalid_request with the range."""
    found = reachable_turns(held)
    mark = next((entry for entry in found if entry.turn == turn), None)
    if mark is None:
        raise _no_such_turn(held, found, turn)
    if turn == held.turn:
        return held
    kept = min(mark.shared_tokens, len(held.tokens) // TOKEN_BYTES)
    history = decode_history(held.messages)
    return SessionTurns(
        turn=turn,
        tokens=held.tokens[: kept * TOKEN_BYTES],
        messages=encode_history(
            structs.replace(history, messages=history.messages[: mark.message_count])
        ),
        # It speaks of a later end; steps in it count only as far as tokens agree.
        hint=held.hint,
        closed=False,
        stale=kept < mark.tokens,
        turns=tuple(entry for entry in held.turns if entry.turn <= turn),
    )


def replace_history(
    held: SessionTurns, messages: Sequence[Message], at: float, *, raw: bool
) -> SessionTurns:
    """The session with another history, as a turn of its own.

    Its tokens stay what they were: the next turn is rendered and finds in them what it shares.
    """
    before = decode_history(held.messages)
    shared = 0
    while (
        not raw
        and not before.raw
        and shared < min(len(messages), len(before.messages))
        and messages[shared] == before.messages[shared]
    ):
        shared += 1
    turns = [
        structs.replace(entry, reachable=entry.reachable and entry.message_count <= shared)
        for entry in held.turns
    ]
    tokens = len(held.tokens) // TOKEN_BYTES
    turns.append(
        TurnRow(
            turn=held.turn + 1,
            # More than it shares, so that going back to it renders it too.
            tokens=max(tokens, 1),
            message_count=len(messages),
            at=at,
        )
    )
    # Raw text knows no tools: kept ones would have every later turn refused.
    framing = Framing() if raw else before.framing
    history = History(raw=raw, messages=tuple(messages), framing=framing)
    return structs.replace(
        held,
        turn=held.turn + 1,
        messages=encode_history(history),
        closed=False,
        stale=True,
        turns=tuple(turns),
    )


def told_anew(history: History, at: float) -> SessionTurns:
    """A session of one turn, not rendered yet, in which another model hears a conversation.

    Reasoning is left out: it was written for the model that wrote it. Template arguments go with
    the template they were for, tools stay.
    """
    messages = tuple(structs.replace(message, reasoning=None) for message in history.messages)
    told = History(messages=messages, framing=Framing(tools=history.framing.tools))
    turn = TurnRow(turn=1, tokens=1, message_count=len(messages), at=at)
    return SessionTurns(
        turn=1,
        tokens=b"",
        messages=encode_history(told),
        hint=b"",
        closed=False,
        stale=True,
        turns=(turn,),
    )


def most_with_kv(tokens: int, *, closed: bool) -> int:
    """How many of a session's tokens have KV for sure; all of them behind an end-of-turn id."""
    return tokens if closed else max(0, tokens - UNFED)


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many leading tokens two packed sequences share."""
    if right.startswith(left):
        return len(left) // TOKEN_BYTES
    low, high = 0, min(len(left), len(right)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        begin, end = low * TOKEN_BYTES, middle * TOKEN_BYTES
        if left[begin:end] == right[begin:end]:
            low = middle
        else:
            high = middle - 1
    return low


def _no_such_turn(held: SessionTurns, found: Sequence[TurnRow], turn: int) -> HotseatError:
    first = found[0].turn if found else 0
    last = found[-1].turn if found else 0
    turns = [entry.turn for entry in found]
    if not found:
        text = "it has no turn yet"
    elif turns == list(range(first, last + 1)):
        text = f"it can be cut at turns {first} to {last}"
    else:
        text = f"it can be cut at turns {', '.join(map(str, turns))}"
    if first < turn <= held.turn or (found and 0 < turn < first):
        text += "; earlier history was replaced"
    return HotseatError(
        "invalid_request",
        f"the session has no turn {turn} to go back to; {text}",
        field="turn",
        turn=turn,
        first=first,
        last=last,
    )
