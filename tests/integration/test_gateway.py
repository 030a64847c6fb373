"""Agents over HTTP with the packages they use, a real daemon and real workers behind it."""

import json
import os
import subprocess
import sys
import time

import httpx2
import ollama
import pytest
from tests.support.daemons.gateways import Gateway
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.real_home import tiny_daemon

MODELS = {
    "agent": {"template": "agent", "ends": True},
    "qwen": {"template": "qwen", "ends": True, "seed": 3},
    "plain": {"template": "chatml", "seed": 2, "ends": True},
}
SETTINGS = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
ASK = [{"role": "user", "content": "Name a river."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Lima"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "Weather of a place."}
FUNCTION = {"type": "function", "function": {**WEATHER, "parameters": SCHEMA}}
LONG = "word " * 9000
ENDLESS = {"max_tokens": 3000, "logit_bias": {"2": -100}}
"""The end cannot be drawn."""
DRAWN = {"temperature": 0.9, "seed": 4, "logit_bias": {"3": -100}}
"""The mark of reasoning cannot be drawn."""


@pytest.fixture(scope="module")
def daemon():
    with tiny_daemon(MODELS, SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def web(daemon):
    with Gateway(daemon.home) as made:
        assert (daemon.home / "http.key").stat().st_mode & 0o777 == 0o600
        yield made


def chat(web, model="plain", **options):
    options = {"messages": ASK, "max_tokens": 12, "temperature": 0} | options
    return web.openai.chat.completions.create(model=model, **options)


def test_models_are_listed_with_the_fields_of_both_dialects(web):
    ids = {model.id for model in web.openai.models.list()}
    assert set(MODELS) <= ids
    assert {model.id for model in web.anthropic.models.list()} == ids
    assert web.openai.models.retrieve("plain").model_dump()["context_window"] > 0


def test_chat_stream_whole_answer_and_wire_say_the_same(web, client):
    whole = chat(web)
    chunks = list(chat(web, stream=True, stream_options={"include_usage": True}))
    wire = client.generate("plain", messages=ASK, max_tokens=12, temperature=0.0).result()
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.choices[0].message.content == streamed == wire.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
    assert whole.usage.prompt_tokens == wire.usage.prompt_tokens


def test_forced_call_comes_in_pieces_that_make_the_whole_one(web):
    options = {"tools": [FUNCTION], "tool_choice": "required", "model": "agent"} | DRAWN
    options["parallel_tool_calls"] = False
    whole = chat(web, **options, max_tokens=200).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (call,) = whole.message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Lima")
    chunks = list(chat(web, **options, max_tokens=200, stream=True))
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
    assert (deltas[0].index, deltas[0].function.name) == (0, "get_weather")
    assert deltas[0].id and all(delta.id is None for delta in deltas[1:])
    assert "".join(d.function.arguments for d in deltas) == call.function.arguments
    assert not "".join(c.choices[0].delta.content or "" for c in chunks)


def test_messages_stream_and_whole_answer_say_the_same(web):
    options = {"model": "plain", "max_tokens": 12, "messages": ASK, "system": "Be brief."}
    whole = web.anthropic.messages.create(**options)
    with web.anthropic.messages.stream(**options) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert [b.text for b in whole.content] == [b.text for b in final.content]
    assert whole.stop_reason == final.stop_reason == "max_tokens"
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert whole.id != final.id
    counted = web.anthropic.messages.count_tokens(
        model="plain", messages=ASK, system="Be brief."
    ).input_tokens
    used = final.usage
    assert used.input_tokens + used.cache_read_input_tokens == counted


def test_result_of_a_tool_and_an_image_are_taken_as_they_are_sent(web):
    tools = [{**WEATHER, "input_schema": SCHEMA}, {"type": "web_search_20250305", "name": "web"}]
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "of another"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny."}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    talk = [
        *ASK,
        {"role": "assistant", "content": [thought, use]},
        {"role": "user", "content": [result, image, {"type": "text", "text": "And now?"}]},
    ]
    answer = web.anthropic.messages.with_raw_response.create(
        model="agent", max_tokens=4, messages=talk, tools=tools, tool_choice={"type": "none"}
    )
    assert answer.headers["x-hotseat-left-out"] == "image, tool web_search_20250305"
    assert answer.parse().usage.output_tokens == 4


def streamed_chat(web, model, talk):
    told = chat(web, model, messages=talk, stream=True, stream_options={"include_usage": True})
    chunks = list(told)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    return text, chunks[-1].usage.prompt_tokens_details.cached_tokens


def streamed_message(web, model, talk):
    with web.anthropic.messages.stream(model=model, max_tokens=12, messages=talk) as told:
        last = told.get_final_message()
    text = "".join(block.text for block in last.content if block.type == "text")
    return text, last.usage.cache_read_input_tokens


def streamed_lines(web, model, talk):
    options = {"num_predict": 12}
    lines = list(web.ollama.chat(model, messages=talk, stream=True, options=options))
    assert lines[-1].done
    return "".join(line.message.content or "" for line in lines), None


def test_streams_of_packages_change_models_and_the_last_reads_the_first_back(web, client):
    ways = (streamed_chat, streamed_message, streamed_lines)
    talks = [[{"role": "user", "content": f"{way.__name__} {LONG[:900]}"}] for way in ways]
    for way, talk in zip(ways, talks, strict=True):
        text, _ = way(web, "plain", talk)
        talk += [{"role": "assistant", "content": text}, {"role": "user", "content": "More."}]
    for way in ways:
        way(web, "qwen", ASK)
    for way, talk in zip(ways, talks, strict=True):
        text, cached = way(web, "plain", talk)
        # The first turn is as long as its text, about.
        assert cached is None or cached >= 150
    assert client.status().model == "plain"


def test_session_of_a_header_goes_on_where_it_was(web):
    header = {"X-Hotseat-Session": "web"}
    first = chat(
        web, "plain", extra_headers=header, messages=[{"role": "user", "content": LONG[:900]}]
    )
    said = {"role": "assistant", "content": first.choices[0].message.content}
    talk = [{"role": "user", "content": LONG[:900]}, said, {"role": "user", "content": "More."}]
    chat(web, "qwen")
    again = chat(web, "plain", extra_headers=header, messages=talk)
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "nope"}, 404, "model_not_found", None),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"n": 2}, 400, "unsupported_feature", "n"),
        ({"temperature": "hot"}, 400, "invalid_request", "temperature"),
        ({"messages": [{"role": "user", "content": LONG}]}, 400, "context_length_exceeded", None),
        ({"audio": {"voice": "x"}}, 400, "unsupported_feature", "audio"),
    ],
)
def test_bad_request_is_named_and_seats_nothing(web, client, body, status, code, param):
    before = client.status().epoch
    plain = {"model": "plain", "messages": ASK} | body
    answer = web.http.post("/v1/chat/completions", json=plain)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert answer.headers["x-should-retry"] == "false" and answer.headers["x-request-id"]
    assert client.status().epoch == before
    if code == "context_length_exceeded":
        assert "prompt is too long: " in error["message"]
    other = web.http.post("/v1/messages", json={"max_tokens": 5} | plain | {"n": None})
    if code != "unsupported_feature":
        assert other.json()["type"] == "error"


def test_ollama_package_hears_the_same_whole_and_in_lines(web):
    options = {"num_predict": 12, "temperature": 0}
    ask = {"model": "plain:latest", "messages": ASK, "options": options}
    whole = web.ollama.chat(**ask)
    lines = list(web.ollama.chat(**ask, stream=True, logprobs=True))
    assert whole.message.content == "".join(line.message.content for line in lines)
    assert whole.message.content == chat(web).choices[0].message.content
    assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 12)
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert sum(len(line.logprobs or ()) for line in lines) == 12
    said = web.ollama.generate("plain", ASK[0]["content"], options=options)
    assert said.response == whole.message.content and said.total_duration > said.eval_duration


def test_ollama_package_lists_shows_calls_seats_and_releases(web, client):
    assert set(MODELS) <= {model.model for model in web.ollama.list().models}
    assert "tools" in web.ollama.show("agent").capabilities
    with pytest.raises(ollama.ResponseError, match="no model 'nope'"):
        web.ollama.show("nope")
    assert web.ollama.chat("qwen").done_reason == "load"
    assert [model.model for model in web.ollama.ps().models] == ["qwen"]
    assert web.ollama.chat("qwen", keep_alive=0).done_reason == "unload"
    assert client.status().model is None and not web.ollama.ps().models
    with pytest.raises(ollama.ResponseError, match="embeddings"):
        web.ollama.embed("qwen", "a")
    form = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    ask = {"messages": ASK, "format": form, "options": {"num_predict": 200}, "think": False}
    assert json.loads(web.ollama.chat("plain", **ask).message.content)["a"] in (1, 2)


def test_foreign_pages_names_and_strangers_stay_outside(web):
    body = {"model": "plain", "messages": ASK}
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"authorization": "Bearer wrong"}, 401),
        ({"content-type": "text/plain"}, 415),
    ):
        for path in ("/v1/chat/completions", "/v1/messages", "/nowhere"):
            answer = web.http.post(
                path,
                content=json.dumps(body),
                headers={"content-type": "application/json"} | headers,
            )
            assert answer.status_code == status, (path, headers)
    assert httpx2.get(f"{web.url}/health/live").json() == {"status": "live"}
    assert httpx2.get(f"{web.url}/v1/models").status_code == 401
    head = {"authorization": "", "x-api-key": web.key}
    assert web.http.get("/v1/models", headers=head).status_code == 200
    assert web.http.get("/health/ready").json() == {"status": "ready"}


def test_stream_that_nobody_reads_is_cancelled_within_a_second(web, client):
    body = {"model": "plain", "messages": ASK, "stream": True} | ENDLESS
    with web.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()  # the stream is closed with it
        next(lines)
        wait_for(lambda: client.status().queue.running == 1, what="it runs")
        began = time.monotonic()
    wait_for(lambda: client.status().queue.running == 0, what="it is cancelled")
    assert time.monotonic() - began < 2.0


def test_whole_answer_that_nobody_waits_for_is_cancelled(web, client):
    body = {"model": "plain", "messages": ASK} | ENDLESS
    with pytest.raises(httpx2.TimeoutException):
        web.http.post("/v1/chat/completions", json=body, timeout=0.5)
    wait_for(lambda: client.status().queue.running == 0, what="it is cancelled")


def test_gateway_without_a_daemon_answers_503_until_there_is_one(tmp_path):
    with Gateway(tmp_path, "--open-loopback") as gateway:
        answer = httpx2.post(
            f"{gateway.url}/v1/messages", json={"model": "a", "messages": ASK}, timeout=20
        )
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "overloaded_error"
        assert answer.headers["retry-after"] and answer.headers["x-should-retry"] == "true"
        assert httpx2.get(f"{gateway.url}/health/live").status_code == 200
        again = subprocess.run(
            [sys.executable, "-m", "hotseat.cli.main", "gateway", "--port", str(gateway.port)],
            env=os.environ | {"HOTSEAT_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert again.returncode == 2 and f":{gateway.port}" in again.stderr
