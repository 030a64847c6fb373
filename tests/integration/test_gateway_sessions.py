"""Conversations over HTTP go on where they were, whatever happens between their turns."""

import json
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest
from tests.support.daemons.gateways import Gateway
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.real_home import tiny_daemon

from hotseat.gateway.conversations.value import Head, name_of, prefix_of, trace
from hotseat.gateway.ollama.body import read_chat
from hotseat.protocol.replies import Progress

MODELS = {
    "agent": {"template": "agent", "ends": True},
    "plain": {"template": "chatml", "seed": 2, "ends": True},
}
SETTINGS = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
LONG = "The seat holds one model at a time, and others wait in a line. " * 12
SYSTEM = "Be brief."
PLACES = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Lima"]}},
    "required": ["city"],
    "additionalProperties": False,
}
LOOK = {"type": "function", "function": {"name": "look", "parameters": PLACES}}
MOST_AGAIN = 16
"""Tokens besides the new ones that a turn may compute again: the promise."""


@pytest.fixture(scope="module")
def live():
    with tiny_daemon(MODELS, SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def web(live):
    with Gateway(live.home) as made:
        yield made


@pytest.fixture
def client(live):
    with live.client() as made:
        yield made


class Chat:
    """One conversation as an OpenAI client keeps it."""

    def __init__(self, web, first, model="plain"):
        self.web = web
        self.model = model
        self.talk = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": first}]
        self.used = None

    def turn(self, *more, **options):
        self.talk += more
        answer = self.web.openai.chat.completions.create(
            model=self.model, messages=self.talk, max_tokens=12, temperature=0, **options
        )
        self.talk.append({"role": "assistant", "content": answer.choices[0].message.content})
        before, self.used = self.used, answer.usage
        if before is None:
            return None
        # All of the turn before but its last token, which nothing was computed for yet.
        held = before.prompt_tokens + before.completion_tokens
        return held - answer.usage.prompt_tokens_details.cached_tokens


def user(text):
    return {"role": "user", "content": text}


def sessions(client, model="plain"):
    return {view.session for view in client.sessions(model) if view.session.startswith("http:")}


def swap_away(web):
    web.openai.chat.completions.create(model="agent", messages=[user("Hi.")], max_tokens=2)


def test_second_turn_computes_only_what_is_new_live_and_after_a_swap(web, client):
    before = sessions(client)
    talk = Chat(web, LONG)
    talk.turn()
    assert talk.turn(user("More.")) <= MOST_AGAIN
    swap_away(web)
    assert talk.turn(user("And more.")) <= MOST_AGAIN
    assert len(sessions(client) - before) == 1


def test_later_system_text_and_a_title_in_between_change_nothing(web, client):
    talk = Chat(web, LONG + "Once.")
    talk.turn()
    title = [{"role": "system", "content": "Write a title."}, talk.talk[1]]
    web.openai.chat.completions.create(model="plain", messages=title, max_tokens=4)
    late = {"role": "system", "content": "Mind the time."}
    assert talk.turn(user("More."), late) <= MOST_AGAIN
    assert talk.turn(late, user("And more.")) <= MOST_AGAIN


def test_who_asks_is_told_what_changed_since_the_answer_before(web):
    def ask(former, system):
        return web.anthropic.messages.create(
            model="plain",
            max_tokens=2,
            system=system,
            messages=[user("Hi.")],
            diagnostics={"previous_message_id": former},
        )

    first = ask(None, SYSTEM)
    again, changed = ask(first.id, SYSTEM), ask(first.id, "Be long.")
    assert first.diagnostics is again.diagnostics is None
    reason = changed.diagnostics.cache_miss_reason
    held = first.usage.input_tokens + first.usage.cache_read_input_tokens
    assert (reason.type, reason.cache_missed_input_tokens) == ("system_changed", held)


def test_attribution_line_and_moving_marks_change_nothing(web):
    def ask(number, talk):
        line = f"x-anthropic-billing-header: cc_version=2.1; cch={number:05x};"
        system = [{"type": "text", "text": line}, {"type": "text", "text": SYSTEM}]
        mark = {"cache_control": {"type": "ephemeral"}}
        words = [{"type": "text", "text": LONG}, mark | {"type": "text", "text": "!"}]
        if number > 1:
            words = [{"type": "text", "text": LONG + "!"}]
        messages = [{"role": "user", "content": words}, *talk]
        return web.anthropic.messages.create(
            model="plain", max_tokens=12, system=system, messages=messages
        )

    first = ask(1, [])
    reply = {"role": "assistant", "content": [block.model_dump() for block in first.content]}
    again = ask(2, [reply, user("More.")])
    held = first.usage.input_tokens + first.usage.cache_read_input_tokens
    assert held + first.usage.output_tokens - again.usage.cache_read_input_tokens <= MOST_AGAIN


def test_second_continuation_is_a_branch_that_shares_what_was(web, client):
    talk = Chat(web, LONG + "Twice.")
    talk.turn()
    fork = Chat(web, "")
    fork.talk, fork.used = list(talk.talk), talk.used
    before = sessions(client)
    assert talk.turn(user("Left.")) <= MOST_AGAIN
    assert fork.turn(user("Right.")) <= MOST_AGAIN
    assert talk.turn(user("Left again.")) <= MOST_AGAIN
    assert fork.turn(user("Right again.")) <= MOST_AGAIN
    assert len(sessions(client) - before) == 1


def test_session_that_is_gone_costs_time_and_no_answer(web, client):
    talk = Chat(web, LONG + "Gone.")
    before = sessions(client)
    talk.turn()
    (name,) = sessions(client) - before
    client.delete_session("plain", name)
    assert talk.turn(user("More.")) is not None
    assert talk.turn(user("And more.")) <= MOST_AGAIN


def test_named_session_counts_more_than_what_is_recognised(web, client):
    header = {"X-Hotseat-Session": "own"}
    before = sessions(client)
    talk = Chat(web, LONG + "Own.")
    talk.turn(extra_headers=header)
    assert talk.turn(user("More."), extra_headers=header) <= MOST_AGAIN
    assert sessions(client) == before
    assert client.session("plain", "own").turn == 2


def test_killed_gateway_finds_conversations_again(web, client):
    talk = Chat(web, LONG + "Killed.")
    talk.turn()
    before = sessions(client)
    web.kill()
    web.start()
    assert talk.turn(user("More.")) <= MOST_AGAIN
    assert sessions(client) == before


def test_conversation_is_counted_as_it_will_be_computed(web):
    options = {"model": "plain", "system": SYSTEM}
    talk = [user(LONG + "Count.")]
    first = web.anthropic.messages.create(max_tokens=12, messages=talk, **options)
    talk += [{"role": "assistant", "content": first.content}, user("More.")]
    counted = web.anthropic.messages.count_tokens(messages=talk, **options).input_tokens
    used = web.anthropic.messages.create(max_tokens=4, messages=talk, **options).usage
    assert used.input_tokens + used.cache_read_input_tokens == counted


def test_name_that_stands_for_the_seated_model_goes_on_too(web, client):
    client.swap("plain")
    talk = Chat(web, LONG + "Seated.", model="seated")
    talk.turn()
    fork = Chat(web, "", model="seated")
    fork.talk, fork.used = list(talk.talk), talk.used
    assert talk.turn(user("More.")) <= MOST_AGAIN
    assert fork.turn(user("Or less.")) <= MOST_AGAIN


def test_same_point_gone_on_with_twice_at_once_has_two_answers(web):
    talk = Chat(web, LONG + "Both.")
    talk.turn()
    forks = []
    for _ in range(2):
        fork = Chat(web, "")
        fork.talk, fork.used = list(talk.talk), talk.used
        forks.append(fork)
    with ThreadPoolExecutor(2) as pool:
        turns = [
            pool.submit(fork.turn, user(words)) for fork, words in zip(forks, "AB", strict=True)
        ]
    assert all(turn.result() is not None for turn in turns)
    assert all(fork.turn(user("More.")) <= MOST_AGAIN for fork in forks)


def test_turn_that_was_cut_is_asked_again_from_where_it_began(web, client):
    talk = Chat(web, LONG + "Cut.")
    talk.turn()
    body = {"model": "plain", "messages": [*talk.talk, user("Long.")], "max_tokens": 3000}
    with web.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
        next(answer.iter_lines())
        wait_for(lambda: client.status().queue.running == 1, what="it runs")
    wait_for(lambda: client.status().queue.running == 0, what="it is cancelled")
    assert talk.turn(user("Long.")) <= MOST_AGAIN
    assert talk.turn(user("More.")) <= MOST_AGAIN


def test_calls_that_come_back_spaced_anew_are_the_same_history(web):
    options = {"model": "agent", "tools": [LOOK], "max_tokens": 200, "tool_choice": "required"}
    options |= {"parallel_tool_calls": False, "seed": 4, "temperature": 0.9}
    options["logit_bias"] = {"3": -100}  # the mark of reasoning cannot be drawn
    talk = [user(LONG + "Look.")]
    first = web.openai.chat.completions.create(messages=talk, **options)
    (call,) = first.choices[0].message.tool_calls
    spaced = call.function.arguments.replace("{", "{ ").replace(":", " : ")
    talk.append(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "look", "arguments": spaced},
                }
            ],
        }
    )
    talk.append({"role": "tool", "tool_call_id": call.id, "content": "Nothing."})
    again = web.openai.chat.completions.create(messages=talk, **options | {"tool_choice": "none"})
    held = first.usage.prompt_tokens + first.usage.completion_tokens
    assert held - again.usage.prompt_tokens_details.cached_tokens <= MOST_AGAIN


def test_calls_that_come_back_without_ids_go_on_where_they_were_made(web, client):
    """The first turn is made over the wire: this dialect cannot ask for a call."""
    talk = [user(LONG + "Call.")]
    options = {"num_predict": 4, "temperature": 0}
    tool = ollama.Tool(**LOOK).model_dump(exclude_none=True)  # it keeps of a tool what it knows
    asked = read_chat(
        json.dumps({"model": "agent", "messages": talk, "tools": [tool]}).encode()
    ).asked
    head = Head(owner="", model="agent", tools=asked.tools, has_ids=False)
    name = name_of(prefix_of("", trace(head, asked.messages).root), "00c0ffee", is_brief=False)
    made = {"tools": asked.tools, "tool_choice": "required", "parallel_calls": False}
    drawn = {"seed": 4, "temperature": 0.9, "logit_bias": [(3, -100.0)], "max_tokens": 200}
    first = client.generate("agent", messages=talk, session=name, **made, **drawn).result()
    (call,) = first.tool_calls
    called = {"function": {"name": call.name, "arguments": json.loads(call.arguments)}}
    talk.append({"role": "assistant", "content": first.text, "tool_calls": [called]})
    talk.append({"role": "tool", "tool_name": call.name, "content": "Nothing."})
    for turn in (2, 3):
        said = web.ollama.chat("agent", messages=talk, tools=[tool], options=options)
        assert client.session("agent", name).turn == turn
        talk += [said.message, user("More.")]
    held = client.session("agent", name).messages
    assert [message["role"] for message in held[1:4]] == ["assistant", "tool", "assistant"]


def test_prefill_cut_three_times_goes_on_where_it_was(client):
    """Each attempt is cut when two fifths of what it had to compute are done."""
    client.swap("plain")
    prompt = "How " + LONG * 16
    total = client.count("plain", prompt=prompt).tokens
    assert 3000 <= total <= 4500
    given = {"prompt": prompt, "max_tokens": 1}
    left = total
    for _ in range(3):
        flow = client.generate("plain", **given)
        for event in flow.events():
            done = event.prompt_tokens_done if isinstance(event, Progress) else None
            if done is not None and done >= total - 0.6 * left:
                left = total - done
                flow.cancel()
                break
        else:
            raise AssertionError("it was not cut")
        wait_for(lambda: client.status().queue.running == 0, what="it is cancelled")
    assert client.generate("plain", **given).result().usage.computed_tokens <= total / 3
