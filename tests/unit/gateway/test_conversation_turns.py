"""Whatever was asked, lost or restarted before: an answer is drawn from the history that was sent.

Played against as much of a daemon as conversations know: sessions with turns, and their refusals.
"""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace
from starlette.requests import Request

from hotseat.gateway.callers import OWNER, SCOPE_KEY
from hotseat.gateway.conversations.habits import ENOUGH, Habits
from hotseat.gateway.conversations.turns import Call, Conversations
from hotseat.gateway.conversations.value import Head, trace
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, ToolCall
from hotseat.protocol.replies import Accepted, Done, Timing, Usage
from hotseat.protocol.views import SessionView, TurnView

HEAD = Head(owner="", model="m")


class Stream:
    """Work that was accepted."""

    accepted = Accepted(position=0)
    request_id = "r"

    def __init__(self, name, history):
        self.name = name
        self.history = history

    async def leave(self):
        raise AssertionError("nobody leaves accepted work here")


class Refused(Stream):
    """Work that was not."""

    accepted = None

    def __init__(self, code, **facts):
        self._error = HotseatError(code, "No.", **facts)

    async def next_event(self):
        raise self._error

    async def leave(self):
        """Nothing is left to cancel."""


class Daemon:
    """Sessions of one model: each is the histories after its turns, first to last."""

    def __init__(self):
        self.held = {}
        self.swap = None
        self.busy = set()
        self.is_away = False
        self.calls = Counter()

    def generate(
        self, _model, *, session=None, expect_turn=None, messages=None, append=None, **rest
    ):
        self.calls["generate"] += 1
        self.swap = rest.get("swap")
        turns = self.held.get(session, [])
        if session in self.busy:
            return Refused("session_busy")
        if expect_turn is not None and expect_turn != len(turns):
            return Refused("session_conflict", turn=len(turns))
        before = turns[-1] if turns else ()
        if append is not None:
            if append[0].role == "system":
                return Refused("session_diverged")
            return Stream(session, (*before, *append))
        if before and tuple(messages[: len(before)]) != before:
            return Refused("session_diverged")
        return Stream(session, tuple(messages))

    def end(self, stream, text, calls):
        """The answer is stored, and told as the daemon does."""
        reply = Message(role="assistant", content=text, tool_calls=calls, reasoning="Hm.")
        turn = None
        if stream.name is not None:
            turns = self.held.setdefault(stream.name, [])
            turns.append((*stream.history, reply))
            turn = len(turns)
        return Done(
            model="m",
            text=text,
            tool_calls=calls,
            tokens=(),
            finish_reason="stop",
            usage=Usage(),
            timing=Timing(),
            session=stream.name,
            turn=turn,
        )

    async def sessions(self):
        if self.is_away:
            raise HotseatError("daemon_unreachable", "No.")
        return [self._view(name) for name in reversed(self.held)]

    async def session(self, model, name):
        self.calls["session"] += 1
        if name not in self.held or model != "m":
            raise HotseatError("session_missing", "No.")
        turns = self.held[name]
        marks = [
            TurnView(turn=n + 1, tokens=1, messages=len(held), at=0.0)
            for n, held in enumerate(turns)
        ]
        messages = tuple(to_builtins(message) for message in turns[-1])
        return replace(self._view(name), messages=messages, turns=tuple(marks))

    async def fork_session(self, _model, name, to, at_turn):
        self.calls["fork"] += 1
        if name in self.busy:
            raise HotseatError("session_busy", "No.")
        self.held[to] = self.held[name][:at_turn]

    def _view(self, name):
        return SessionView(
            model="m",
            session=name,
            turn=len(self.held[name]),
            tokens=1,
            durable_tokens=0,
            state="cold",
            bytes_on_disk=0,
            created_at=0.0,
            used_at=0.0,
        )


async def never():
    await asyncio.Event().wait()


def call(**options):
    scope = {"type": "http", "headers": [], SCOPE_KEY: OWNER}
    http = Request(scope, receive=never)
    return Call(http=http, model="m", registered="m", options=options)


def by_value(history):
    return trace(HEAD, (*history, Message(role="assistant"))).points[-1]


class Client:
    """An agent that keeps its histories, and goes on from any of them."""

    def __init__(self):
        self.daemon = Daemon()
        self.gateway = Conversations(self.daemon)
        self.histories = [()]

    async def ask(self, at, added, text, calls=(), policy=None, **options):
        sent = (*self.histories[at], *added)
        opened = await self.gateway.recognise(call(**policy or {}), HEAD, sent, **options)
        assert by_value(opened.stream.history) == by_value(sent)
        done = self.daemon.end(opened.stream, text, calls)
        assert (done.session or "", done.turn or 0) == (opened.session, opened.turn)
        self.gateway.note(HEAD, sent, done)
        # As clients send it back: without reasoning, trimmed.
        reply = Message(role="assistant", content=text.strip(), tool_calls=calls)
        self.histories.append((*sent, reply))
        return opened


WORDS = st.sampled_from(["a", "b"])
ADDED = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "user", "system"]), content=WORDS),
    min_size=1,
    max_size=2,
)
CALLS = st.sampled_from([(), (ToolCall(id="c", name="look", arguments='{ "a":1}'),)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 9), ADDED, st.sampled_from(["x", " y\n"]), CALLS),
        st.tuples(
            st.sampled_from(["restart", "lose", "busy", "free", "cut", "rewind"]),
            st.integers(0, 9),
        ),
    ),
    max_size=14,
)


@given(STEPS)
async def test_answer_is_drawn_from_the_history_that_was_sent(steps):
    client = Client()
    daemon = client.daemon
    for what, at, *rest in steps:
        names = list(daemon.held)
        name = names[at % len(names)] if names else None
        match what:
            case "ask":
                await client.ask(at % len(client.histories), *rest)
            case "restart":
                client.gateway = Conversations(daemon)
            case "lose" if name:
                del daemon.held[name]
            case "busy" if name:
                daemon.busy.add(name)
            case "free":
                daemon.busy.clear()
            case "cut":  # a partial turn that no client ever saw
                history = client.histories[at % len(client.histories)]
                sent = (*history, Message(role="user", content="a"))
                opened = await client.gateway.recognise(call(), HEAD, sent)
                daemon.end(opened.stream, "half", ())
            case "rewind" if name and len(daemon.held[name]) > 1:  # by its owner
                daemon.held[name].pop()


async def test_second_turn_is_appended_and_a_branch_is_a_fork():
    client = Client()
    first = await client.ask(0, [Message(role="user", content="a")], "x")
    left = await client.ask(1, [Message(role="user", content="b")], "y")
    assert (left.session, left.turn) == (first.session, 2)
    right = await client.ask(1, [Message(role="user", content="c")], "z")
    assert right.session != first.session and right.turn == 2
    assert client.daemon.calls["fork"] == 1
    again = await client.ask(3, [Message(role="user", content="d")], "z")
    assert (again.session, again.turn) == (right.session, 3)


async def test_turn_that_was_rewound_is_not_taken_for_the_one_that_came_after():
    client = Client()
    first = await client.ask(0, [Message(role="user", content="a")], "x")
    await client.ask(1, [Message(role="user", content="b")], "y")
    client.daemon.held[first.session].pop()
    other = await client.ask(1, [Message(role="user", content="c")], "z")
    assert (other.session, other.turn) == (first.session, 2)
    left = await client.ask(2, [Message(role="user", content="d")], "z")
    assert left.session != first.session


async def test_gateway_that_starts_reads_each_beginning_once():
    client = Client()
    first = await client.ask(0, [Message(role="user", content="a")], "x")
    client.gateway = Conversations(client.daemon)
    second = await client.ask(1, [Message(role="user", content="b")], "y")
    assert (second.session, second.turn) == (first.session, 2)
    assert client.daemon.calls["session"] == 1
    # A reply that nobody here drew: the sessions of this beginning are known by now.
    client.histories.append((*client.histories[1][:1], Message(role="assistant", content="?")))
    await client.ask(3, [Message(role="user", content="b")], "y")
    assert client.daemon.calls["session"] == 1


async def test_beginning_that_could_not_be_looked_for_is_looked_for_again():
    client = Client()
    first = await client.ask(0, [Message(role="user", content="a")], "x")
    client.gateway = Conversations(client.daemon)
    client.daemon.is_away = True
    with pytest.raises(HotseatError):
        await client.ask(1, [Message(role="user", content="b")], "y")
    client.daemon.is_away = False
    second = await client.ask(1, [Message(role="user", content="b")], "y")
    assert (second.session, second.turn) == (first.session, 2)


@pytest.mark.parametrize("code", ["queue_full", "context_overflow", "unknown_model"])
async def test_refusal_of_the_request_itself_is_told(code):
    client = Client()
    await client.ask(0, [Message(role="user", content="a")], "x")
    client.daemon.generate = lambda *_, **__: Refused(code)
    with pytest.raises(HotseatError) as caught:
        await client.ask(1, [Message(role="user", content="b")], "y")
    assert caught.value.code == code


async def test_system_text_right_behind_a_reply_is_no_new_head():
    client = Client()
    first = await client.ask(0, [Message(role="user", content="a")], "x")
    late = [Message(role="system", content="b"), Message(role="user", content="b")]
    second = await client.ask(1, late, "y")
    assert (second.session, second.turn) == (first.session, 2)


async def test_who_never_goes_on_gets_no_more_sessions_until_it_does():
    client = Client()
    for number in range(ENOUGH + 5):
        await client.ask(0, [Message(role="user", content=str(number))], "x")
    assert len(client.daemon.held) == ENOUGH
    words = [Message(role="user", content="a")]
    assert (await client.ask(0, words, "x", is_kept=True)).session
    other = [Message(role="system", content="Other."), *words]
    assert (await client.ask(0, other, "x")).session
    assert not (await client.ask(0, [Message(role="user", content="b")], "x")).session
    assert (await client.ask(-1, [Message(role="user", content="c")], "x")).session
    assert (await client.ask(0, [Message(role="user", content="d")], "x")).session


async def test_titles_beside_conversations_wait_for_the_seat_and_batches_do_not():
    client = Client()
    for number in range(ENOUGH + 1):
        await client.ask(0, [Message(role="user", content=str(number))], "x")
    assert client.daemon.swap is None
    main = [Message(role="system", content="Work."), Message(role="user", content="a")]
    await client.ask(0, main, "x")
    await client.ask(-1, [Message(role="user", content="b")], "x")
    assert client.daemon.swap is None
    await client.ask(0, [Message(role="user", content="A title.")], "x")
    assert client.daemon.swap == "wait"
    await client.ask(0, [Message(role="user", content="A title.")], "x", policy={"swap": "auto"})
    assert client.daemon.swap == "auto"


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.booleans()), max_size=30))
def test_habits_count_what_was_begun_since_somebody_went_on(steps):
    habits, begun = Habits(enough=3, most=2), {}
    for kind, is_new in steps:
        if not is_new:
            habits.go_on(kind, "a")
            begun.pop(kind, None)
            continue
        count = begun.pop(kind, 0) + 1
        begun[kind] = count
        while len(begun) > 2:
            del begun[next(iter(begun))]
        assert habits.begin(kind) == (count <= 3)


async def test_changing_system_text_is_logged_once_and_without_a_word_of_it(caplog):
    client = Client()
    for number in range(4):
        system = Message(role="system", content=f"Secret {number}. " + "Be brief. " * 40)
        await client.ask(0, [system, Message(role="user", content="a")], "x")
    (line,) = caplog.messages
    assert line.startswith("prefix.unstable agent= position=7 given=1 before=1: ")
    assert "Secret" not in line
