"""Fork, rewind, replace and pin as a client sees them; stub workers, one daemon for all."""

import uuid
from functools import partial

import pytest
from tests.support.daemons.commands import cli_json
from tests.support.daemons.live_daemon import put_record
from tests.support.daemons.stub_home import error_of, expected, stub_daemon, stub_record

from hotseat.protocol.model import TemplateProbe

MODELS = {"slow": {"slow_token_s": 0.01, "reply_tokens": 100_000}}
DAEMON = partial(stub_daemon, ["a", "b", "slow"], reply_tokens=24, models=MODELS)


@pytest.fixture
def session(client):
    """A raw session with three turns on model a."""
    name = uuid.uuid4().hex[:12]
    for turn in range(3):
        client.generate("a", append=f"turn {turn};", session=name, max_tokens=5).result()
    return name


def texts(client, name):
    return [entry["content"] for entry in client.session("a", name).messages]


def test_fork_at_a_turn_holds_what_the_session_was_after_it(client, session):
    whole = texts(client, session)
    change = client.fork_session("a", session, f"{session}-2", at_turn=2)
    assert (change.turn, change.origin) == (2, session)
    assert texts(client, f"{session}-2") == whole[:4]
    assert texts(client, session) == whole


def test_fork_goes_on_exactly_as_its_origin_would_have(client, session):
    client.fork_session("a", session, f"{session}-f")
    fork = client.generate("a", append="and?", session=f"{session}-f", max_tokens=9).result()
    origin = client.generate("a", append="and?", session=session, max_tokens=9).result()
    assert (fork.turn, fork.tokens) == (4, origin.tokens)


def test_fork_under_a_name_that_exists_is_a_conflict(client, session):
    error = error_of(client.fork_session, "a", session, session)
    assert error.code == "session_conflict"


def test_fork_of_a_session_that_is_not_there_is_session_missing(client):
    assert error_of(client.fork_session, "a", "nobody", "somebody").code == "session_missing"


def test_fork_under_a_hidden_name_is_refused(client, session):
    assert error_of(client.fork_session, "a", session, ".run-1").code == "invalid_request"


@pytest.mark.parametrize("turn", [0, 4])
def test_turn_out_of_range_is_refused_with_the_range(client, session, turn):
    for error in (
        error_of(client.fork_session, "a", session, f"{session}-x", at_turn=turn),
        error_of(client.rewind_session, "a", session, turn),
    ):
        assert (error.code, error.facts["first"], error.facts["last"]) == ("invalid_request", 1, 3)


def test_rewound_session_goes_on_from_that_turn(client, session):
    client.fork_session("a", session, f"{session}-1", at_turn=1)
    change = client.rewind_session("a", session, 1)
    assert (change.turn, change.messages) == (1, 2)
    again = client.generate("a", append="more", session=session, max_tokens=6).result()
    other = client.generate("a", append="more", session=f"{session}-1", max_tokens=6).result()
    assert (again.turn, again.tokens) == (2, other.tokens)


def test_show_tells_the_turns_to_go_back_to(client, session):
    view = client.session("a", session)
    assert [entry.turn for entry in view.turns] == [1, 2, 3]
    assert view.turns[-1].tokens == view.tokens


def test_replaced_text_is_what_the_next_turn_goes_on_from(client, session):
    change = client.replace_session("a", session, "In short;", expect_turn=3)
    assert (change.turn, change.messages, change.kept_tokens) == (4, 1, 0)
    done = client.generate("a", append="go on", session=session, max_tokens=7).result()
    assert (done.turn, done.tokens) == (5, expected("a", "In short;go on", 7))


def test_replace_that_expects_another_turn_is_a_conflict(client, session):
    error = error_of(client.replace_session, "a", session, "x", expect_turn=7)
    assert (error.code, error.facts["turn"]) == ("session_conflict", 3)


def test_turns_before_a_replaced_history_cannot_be_gone_back_to(client, session):
    client.replace_session("a", session, "In short;")
    client.generate("a", append="go on", session=session, max_tokens=4).result()
    error = error_of(client.rewind_session, "a", session, 2)
    assert (error.code, error.facts["first"]) == ("invalid_request", 4)
    assert client.rewind_session("a", session, 4).messages == 1
    done = client.generate("a", append="go on", session=session, max_tokens=4).result()
    assert done.tokens == expected("a", "In short;go on", 4)


def test_messages_in_place_of_text_are_refused_without_a_template(daemon, client):
    put_record(daemon.home, stub_record("bare", template=TemplateProbe(mode="raw")))
    given = [{"role": "user", "content": "x"}]
    assert error_of(client.replace_session, "bare", "s", given).code == "unsupported_feature"


def test_chat_is_rendered_anew_after_its_history_was_replaced(daemon, client):
    put_record(daemon.home, stub_record("chat", template=TemplateProbe(mode="exact")))
    ask = [{"role": "user", "content": "first"}]
    client.generate("chat", append=ask, session="long", max_tokens=4).result()
    summary = [{"role": "user", "content": "in short"}, {"role": "assistant", "content": "yes"}]
    client.replace_session("chat", "long", summary)
    done = client.generate("chat", append=ask, session="long", max_tokens=4).result()
    assert done.context == "rendered"
    whole = client.generate("chat", messages=[*summary, *ask], max_tokens=4).result()
    assert done.tokens == whole.tokens


@pytest.fixture
def chats(daemon, client):
    """Models `chat` and `critic`, and a session of the first with reasoning and a call."""
    for name in ("chat", "critic"):
        template = TemplateProbe(mode="exact", tools=True, append_tools=True)
        put_record(daemon.home, stub_record(name, template=template))
    name = uuid.uuid4().hex[:12]
    ask = [{"role": "user", "content": "first"}]
    client.generate("chat", append=ask, session=name, max_tokens=4).result()
    call = {"id": "c1", "name": "look", "arguments": "{}"}
    history = [
        *ask,
        {"role": "assistant", "content": "I look.", "reasoning": "Hm.", "tool_calls": [call]},
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ]
    client.replace_session("chat", name, history)
    return name


def test_copied_conversation_is_told_to_the_other_model_without_its_reasoning(client, chats):
    change = client.copy_session("chat", chats, "critic", f"{chats}-c")
    assert (change.model, change.turn, change.messages) == ("critic", 1, 3)
    assert (change.kept_tokens, change.origin) == (0, chats)
    told = client.session("critic", f"{chats}-c").messages
    assert [entry["content"] for entry in told] == ["first", "I look.", "blue"]
    assert told[1].get("reasoning") is None
    assert told[1]["tool_calls"][0]["name"] == "look"
    assert client.session("chat", chats).messages[1]["reasoning"] == "Hm."
    ask = [{"role": "user", "content": "And?"}]
    quoted = client.quote(["critic"], session=f"{chats}-c")[0]
    done = client.generate("critic", append=ask, session=f"{chats}-c", max_tokens=4).result()
    assert (done.context, done.turn) == ("rendered", 2)
    plain = [{key: value for key, value in entry.items() if value} for entry in told]
    whole = client.generate("critic", messages=[*plain, *ask], max_tokens=4).result()
    assert done.tokens == whole.tokens
    assert quoted.prompt_tokens > 0 == quoted.stored_tokens


def test_copy_onto_a_session_that_exists_is_a_conflict(client, chats):
    error = error_of(client.copy_session, "chat", chats, "chat", chats)
    assert error.code == "session_conflict"


def test_copy_of_what_stays_off_the_disk_stays_off_it(client, chats):
    ask = [{"role": "user", "content": "first"}]
    name = f"{chats}-v"
    client.generate("chat", append=ask, session=name, max_tokens=4, persist=False).result()
    client.copy_session("chat", name, "critic", name)
    kept = {entry.session: entry.persist for entry in client.sessions("critic")}
    assert kept[name] is False
    assert error_of(client.copy_session, "chat", name, "critic", name).code == "session_conflict"


def test_raw_text_cannot_be_told_to_a_chat_model(client, session, chats):
    error = error_of(client.copy_session, "a", session, "critic", "x")
    assert (error.code, error.facts["field"]) == ("unsupported_feature", "session")


def test_copy_command_says_what_became_of_it(daemon, chats):
    code, told = cli_json(daemon, "sessions", "copy", "chat", chats, "critic", f"{chats}-cli")
    assert code == 0
    assert (told["model"], told["session"], told["messages"]) == ("critic", f"{chats}-cli", 3)


@pytest.mark.parametrize("verb", ["fork", "rewind", "replace"])
def test_session_with_a_turn_under_way_is_busy(client, verb):
    name = uuid.uuid4().hex[:12]
    with client.generate("slow", append="x", session=name, request_id=f"{name}-r") as stream:
        next(stream)
        calls = {
            "fork": lambda: client.fork_session("slow", name, f"{name}-f"),
            "rewind": lambda: client.rewind_session("slow", name, 1),
            "replace": lambda: client.replace_session("slow", name, "x"),
        }
        error = error_of(calls[verb])
    assert (error.code, error.facts["request_id"]) == ("session_busy", f"{name}-r")


def test_session_off_the_disk_forks_and_rewinds_without_touching_it(client):
    name = uuid.uuid4().hex[:12]
    for turn in range(2):
        client.generate("a", append=f"t{turn}", session=name, max_tokens=3, persist=False).result()
    written = client.status().bytes_written
    client.fork_session("a", name, f"{name}-f", at_turn=1)
    client.rewind_session("a", name, 1)
    one = client.generate("a", append="z", session=name, max_tokens=5).result()
    two = client.generate("a", append="z", session=f"{name}-f", max_tokens=5).result()
    assert (one.turn, one.tokens) == (2, two.tokens)
    assert client.status().bytes_written == written


def test_pin_is_shown_until_it_is_taken_back(client, session):
    assert client.pin_session("a", session).pinned
    assert client.session("a", session).pinned
    client.pin_session("a", session, pinned=False)
    assert not client.session("a", session).pinned


def test_forks_survive_a_restart_of_the_daemon():
    with stub_daemon("a", reply_tokens=24) as daemon:
        with daemon.client() as client:
            for turn in range(2):
                client.generate("a", append=f"{turn}", session="s", max_tokens=4).result()
            client.fork_session("a", "s", "f", at_turn=1)
        daemon.stop()
        daemon.start()
        with daemon.client() as client:
            assert client.session("a", "f").turn == 1
            assert client.generate("a", append="1", session="f", max_tokens=4).result().turn == 2


def test_commands_fork_rewind_and_replace(daemon, client, session, tmp_path):
    code, forked = cli_json(
        daemon, "sessions", "fork", "a", session, f"{session}-c", "--at-turn", "2"
    )
    assert (code, forked["turn"], forked["origin"]) == (0, 2, session)
    code, rewound = cli_json(daemon, "sessions", "rewind", "a", session, "1")
    assert (code, rewound["turn"]) == (0, 1)
    (tmp_path / "history").write_text("In short;")
    code, replaced = cli_json(
        daemon, "sessions", "replace", "a", session, str(tmp_path / "history")
    )
    assert (code, replaced["turn"], replaced["messages"]) == (0, 2, 1)
    code, refused = cli_json(daemon, "sessions", "rewind", "a", session, "9")
    assert (code, refused["error"]["code"]) == (2, "invalid_request")
