"""Tools, reasoning and JSON between client and real worker, over swaps, kills and turns."""

import json
import os
import signal
from functools import partial

import pytest
from tests.support.daemons.commands import cli, cli_json
from tests.support.daemons.real_home import tiny_daemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.client import arguments_of, calls_of, reasoning_of, text_of, tool_reply
from hotseat.protocol.errors import HotseatError

SETTINGS = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
THINK, END_THINK, CALL_MARK = 3, 4, 510
ASK = [{"role": "user", "content": "What is the weather in Lima?"}]
MORE = [{"role": "user", "content": "And in Rome?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Lima"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
LONG = {
    "type": "json_schema",
    "schema": {
        "type": "array",
        "items": {"type": "integer", "minimum": 10, "maximum": 99},
        "minItems": 60,
        "maxItems": 60,
    },
}
DRAWN = {"temperature": 0.9, "seed": 4, "logit_bias": [(THINK, -100.0)]}
THINKS = {"temperature": 1.0, "seed": 5, "logit_bias": [(THINK, 100.0), (END_THINK, 5.0)]}
MODELS = {
    "agent": {"template": "agent", "ends": True},
    "qwen": {"template": "qwen", "ends": True},
    "plain": {"template": "chatml", "seed": 2, "ends": True},
}
DAEMON = partial(tiny_daemon, MODELS, SETTINGS)


def call(client, session=None, **options):
    options.setdefault("tool_choice", {"name": "get_weather"})
    given = {"session": session, "append": ASK} if session else {"messages": ASK}
    return client.generate("agent", **given, tools=[WEATHER], **DRAWN, **options)


def test_tool_call_comes_as_a_part_and_in_the_end(client):
    with call(client) as stream:
        chunks = list(stream)
        done = stream.result()
    (streamed,) = [found for chunk in chunks for found in calls_of(chunk)]
    assert done.finish_reason == "tool_calls"
    assert done.tool_calls == (streamed,)
    assert arguments_of(streamed)["city"] in ("Rome", "Lima")
    assert done.text.strip() == ""


def test_kept_reply_brings_the_call_again(daemon, client):
    with call(client) as stream:
        done = stream.result()
    with client.attach(stream.request_id) as again:
        chunks = list(again)
        assert again.result() == done
    assert [found for chunk in chunks for found in calls_of(chunk)] == list(done.tool_calls)


def test_session_keeps_calls_and_tools_and_takes_the_result(client):
    with call(client, session="s") as stream:
        first = stream.result()
    (made,) = first.tool_calls
    answer = client.generate(
        "agent", session="s", append=[tool_reply(made, "Rain.")], max_tokens=4
    ).result()
    assert (answer.turn, answer.context) == (2, "appended")
    assert answer.usage.restored_tokens > first.usage.prompt_tokens
    messages = client.session("agent", "s").messages
    assert messages[1]["tool_calls"][0]["name"] == "get_weather"
    assert messages[2]["tool_call_id"] == made.id


def test_tools_of_a_session_cannot_change_in_silence(client):
    call(client, session="fixed").result()
    other = json.loads(json.dumps(WEATHER).replace("get_weather", "get_time"))
    with pytest.raises(HotseatError) as caught:
        client.generate("agent", session="fixed", append=MORE, tools=[other]).result()
    assert (caught.value.code, caught.value.facts["field"]) == ("session_diverged", "tools")
    done = client.generate(
        "agent", session="fixed", append=MORE, tools=[other], rerender=True, max_tokens=2
    ).result()
    assert done.context == "rendered"


def test_form_is_the_same_over_a_swap_in_the_middle(client):
    whole = client.generate("agent", messages=ASK, response_format=LONG, **DRAWN).result()
    stream = client.generate("agent", messages=ASK, response_format=LONG, **DRAWN)
    seen = next(iter(stream))
    client.swap("plain")
    done = stream.result()
    assert len(seen.tokens) < len(whole.tokens)
    assert done.timing.swap_s > 0
    assert done.tokens == whole.tokens
    assert len(json.loads(done.text)) == 60


def test_form_is_the_same_over_the_death_of_the_worker(client):
    whole = client.generate("agent", messages=ASK, response_format=LONG, **DRAWN).result()
    stream = client.generate("agent", messages=ASK, response_format=LONG, **DRAWN)
    next(iter(stream))
    os.kill(client.status().worker.pid, signal.SIGKILL)
    done = stream.result()
    assert done.tokens == whole.tokens
    assert json.loads(done.text) == json.loads(whole.text)


def test_reasoning_comes_apart_from_text_and_is_kept(client):
    short = {"type": "json_schema", "schema": {"enum": ["blue", "green"]}}
    stream = client.generate("qwen", session="r", append=ASK, response_format=short, **THINKS)
    chunks = list(stream)
    done = stream.result()
    assert done.reasoning and done.reasoning == "".join(map(reasoning_of, chunks))
    assert done.text == "".join(map(text_of, chunks))
    assert json.loads(done.text) in ("blue", "green")
    assert client.session("qwen", "r").messages[1]["reasoning"] == done.reasoning


@pytest.mark.parametrize("between", ["nothing", "a swap"])
def test_second_turn_of_a_reasoning_model_reuses_all_before_the_dropped_reasoning(client, between):
    name = f"reuse-{between.replace(' ', '-')}"
    long = [{"role": "user", "content": f"After {between}: " + "The quick brown fox. " * 80}]
    short = {"type": "json_schema", "schema": {"enum": ["blue", "green"]}}
    first = client.generate(
        "qwen", session=name, append=long, response_format=short, **THINKS
    ).result()
    if between == "a swap":
        client.swap("plain")
    second = client.generate("qwen", session=name, append=MORE, max_tokens=2).result()
    assert second.context == "rendered"
    # The generation prompt is repeated by the history; the reasoning behind it is not.
    assert second.usage.restored_tokens == first.usage.prompt_tokens
    assert "reasoning" in second.note


REFUSED = {
    "tools without a place": ("plain", {"tools": [WEATHER]}, "unsupported_feature", "tools"),
    "nothing to choose": ("agent", {"tool_choice": "required"}, "invalid_request", "tool_choice"),
    "unknown choice": (
        "agent",
        {"tools": [WEATHER], "tool_choice": {"name": "x"}},
        "invalid_request",
        "tool_choice",
    ),
    "unknown argument": (
        "qwen",
        {"template_args": {"loud": True}},
        "unsupported_feature",
        "template_args.loud",
    ),
    "schema": (
        "plain",
        {"response_format": {"type": "json_schema", "schema": {"not": {}}}},
        "unsupported_feature",
        "response_format.schema",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_naming_the_field(client, name):
    model, options, code, field = REFUSED[name]
    with pytest.raises(HotseatError) as caught:
        client.generate(model, messages=ASK, max_tokens=2, **options).result()
    assert (caught.value.code, caught.value.facts["field"]) == (code, field)


def test_schema_that_no_model_could_follow_moves_no_seat(client):
    client.swap("qwen")
    wanted = {"type": "json_schema", "schema": {"$ref": "https://example.org/person.json"}}
    with pytest.raises(HotseatError, match="leads out of the schema"):
        client.generate("plain", messages=ASK, response_format=wanted).result()
    assert client.status().model == "qwen"


CANNOT_BE_HELD = {
    "names that a pattern holds for too": {
        "properties": {"ab": {"type": "string"}},
        "patternProperties": {"^a": {"type": "integer"}},
    },
    "keyword": {"type": "array", "uniqueItems": True},
    "kinds that overlap": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "look-ahead": {"type": "string", "pattern": "^(?!a)b"},
    "endless value": {
        "type": "object",
        "properties": {"next": {"$ref": "#"}},
        "required": ["next"],
    },
}


@pytest.mark.parametrize("name", CANNOT_BE_HELD)
def test_schema_that_no_grammar_can_hold_moves_no_seat(client, name):
    client.swap("qwen")
    schema = CANNOT_BE_HELD[name]
    wanted = {"response_format": {"type": "json_schema", "schema": schema}}
    parameters = {"properties": {"a": schema}, "required": ["a"]}
    spec = {"name": "f", "strict": True, "parameters": parameters}
    called = {"tools": [{"function": spec}]}
    for model, asked in (("plain", wanted), ("agent", called)):
        with pytest.raises(HotseatError, match="schema") as caught:
            client.generate(model, messages=ASK, **asked).result()
        assert caught.value.code in ("unsupported_feature", "invalid_request")
    assert client.status().model == "qwen"


def test_format_that_is_not_known_is_no_more_than_a_remark(client):
    schema = {"type": "string", "format": "phone", "enum": ["blue", "green"]}
    wanted = {"type": "json_schema", "schema": schema}
    done = client.generate("plain", messages=ASK, response_format=wanted, **DRAWN).result()
    assert json.loads(done.text) in ("blue", "green")


def test_field_that_no_request_has_is_named_by_the_daemon(daemon):
    body = {
        "model": "plain",
        "messages": [{"role": "user", "content": "x", "reasoning_content": "hm"}],
        "max_tokens": 2,
        "n": 2,
    }
    with RawPeer(daemon.endpoint().requests) as peer:
        peer.pack("generate", body, "named")
        first = peer.until_end("named")
        assert first[0].ignored == ("messages[0].reasoning_content", "n")
        peer.pack("generate", body, "named")
        again = peer.until_end("named")
    assert (again[0].replayed, again[0].ignored) == (True, first[0].ignored)
    assert again[-1] == first[-1]


def test_command_line_refuses_a_field_and_an_option_that_are_none(daemon, tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"function": {"name": "f", "parametres": {}}}]))
    code, _, err = cli(daemon, "run", "agent", "x", "--tools", str(tools))
    assert code != 0 and "did you mean parameters" in " ".join(err.split())
    code, _, err = cli(daemon, "run", "agent", "x", "--temprature", "1")
    assert code != 0 and "--temperature" in err


def test_template_argument_is_fixed_with_the_session(client):
    quiet = {"template_args": {"enable_thinking": False}}
    client.generate("qwen", session="q", append=ASK, max_tokens=2, **quiet).result()
    client.generate("qwen", session="q", append=MORE, max_tokens=2).result()
    with pytest.raises(HotseatError, match="template_args are fixed"):
        client.generate(
            "qwen", session="q", append=MORE, template_args={"enable_thinking": True}
        ).result()


def test_call_that_cannot_be_read_arrives_as_text_and_says_so(client):
    done = client.generate(
        "agent", messages=ASK, tools=[WEATHER], max_tokens=3, logit_bias=[(CALL_MARK, 100.0)]
    ).result()
    assert done.tool_calls == ()
    assert done.text == "<tool_call>" * 3
    assert "of the call" in done.tool_parse_error


def test_command_line_shows_a_call_and_has_it_in_its_json(daemon, tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([WEATHER]))
    asked = ("run", "agent", "Weather?", "--tools", str(tools), "--tool-choice", "get_weather")
    code, facts = cli_json(daemon, *asked)
    assert (code, facts["finish_reason"]) == (0, "tool_calls")
    assert facts["tool_calls"][0]["name"] == "get_weather"
    code, out, err = cli(daemon, *asked)
    assert code == 0 and out.strip() == ""
    assert "get_weather {" in err


def test_command_line_takes_a_schema_and_template_arguments(daemon, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"enum": ["blue", "green"]}))
    code, facts = cli_json(
        daemon,
        "run",
        "qwen",
        "Colour?",
        "--format",
        str(schema),
        "--max-tokens",
        "20",
        "--template-arg",
        "enable_thinking=false",
        "--seed",
        "1",
    )
    assert code == 0 and facts["usage"]["completion_tokens"] > 0
    code, _, err = cli(daemon, "run", "qwen", "x", "--template-arg", "loud=1")
    assert code != 0 and "loud" in err and "Traceback" not in err
