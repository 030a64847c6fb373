"""Responses with the package that agents use: streams, tools, reasoning, what is kept of them."""

import json
from typing import get_args

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.support.daemons.gateways import Gateway
from tests.support.daemons.real_home import tiny_daemon

MODELS = {
    "agent": {"template": "agent", "ends": True},
    "plain": {"template": "chatml", "seed": 2, "ends": True},
}
SETTINGS = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
LONG = "The seat holds one model at a time, and others wait in a line. " * 12
PLACES = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Lima"]}},
    "required": ["city"],
    "additionalProperties": False,
}
LOOK = {"type": "function", "name": "look", "parameters": PLACES, "strict": False}
NAMED = {"type": "namespace", "name": "mcp__eyes__", "description": "Eyes.", "tools": [LOOK]}
MOST_AGAIN = 16
EVENTS = {
    get_args(kind.model_fields["type"].annotation)[0]: TypeAdapter(kind)
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}


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


def ask(web, words="Name a river.", model="plain", **options):
    options = {"max_output_tokens": 12, "temperature": 0} | options
    made = web.openai.responses.create(model=model, input=words, **options)
    Response.model_validate(made.model_dump(warnings=False))
    return made


def stream(web, **body):
    """Events of a stream as they are sent, each valid in the eyes of the package."""
    body = {"model": "plain", "input": "Name a river.", "temperature": 0} | body
    with web.http.stream("POST", "/v1/responses", json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    for event in events:
        EVENTS[event["type"]].validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def held(response):
    return response.usage.input_tokens + response.usage.output_tokens


def cached(response):
    return response.usage.input_tokens_details.cached_tokens


def test_stream_whole_answer_and_wire_say_the_same(web, client):
    whole = ask(web)
    events = stream(web, max_output_tokens=12)
    wire = client.generate(
        "plain",
        messages=[{"role": "user", "content": "Name a river."}],
        max_tokens=12,
        temperature=0.0,
    ).result()
    said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert whole.output_text == said == wire.text
    assert [event["type"] for event in events][:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert events[-1]["type"] == "response.incomplete"
    final = Response.model_validate(events[-1]["response"])
    assert final.output_text == said and final.usage.output_tokens == 12
    assert final.incomplete_details.reason == whole.incomplete_details.reason
    assert final.id == events[0]["response"]["id"] != whole.id


def test_models_change_hands_and_the_last_answer_is_read_back(web):
    first = ask(web, LONG)
    ask(web, "Hi.", model="agent")
    with web.openai.responses.stream(
        model="plain", input="More.", previous_response_id=first.id, max_output_tokens=12
    ) as told:
        last = list(told)[-1].response
    assert held(first) - cached(last) <= MOST_AGAIN


def test_history_that_is_sent_whole_is_appended_too(web):
    first = ask(web, LONG + "Whole.", instructions="Be brief.")
    talk = [{"role": "user", "content": LONG + "Whole."}, *[o.model_dump() for o in first.output]]
    again = ask(web, [*talk, {"role": "user", "content": "More."}], instructions="Be brief.")
    assert held(first) - cached(again) <= MOST_AGAIN


def test_responses_are_continued_twice_and_after_everything_was_restarted(web, live):
    first = ask(web, LONG + "Twice.")
    left = ask(web, "Left.", previous_response_id=first.id)
    right = ask(web, "Right.", previous_response_id=first.id)
    web.kill()
    live.stop()
    live.start()
    web.start()
    for branch, words in ((left, "Left."), (right, "Right.")):
        last = ask(web, "And?", previous_response_id=branch.id)
        assert held(branch) - cached(last) <= MOST_AGAIN
        found = web.openai.responses.retrieve(last.id)
        assert (found.output_text, found.model) == (last.output_text, "plain")
        with live.client() as client:
            newest = client.sessions("plain")[0].session
            texts = [m["content"] for m in client.session("plain", newest).messages]
        assert words in texts


def test_response_that_is_named_for_comparison_is_compared(web):
    first = ask(web)
    beside = {"comparison_response_id": first.id}
    made = [
        ask(web, "And a lake.", prompt_cache_options=beside, previous_response_id=first.id),
        ask(web, "Name a lake.", prompt_cache_options=beside),
        ask(web, prompt_cache_options={"comparison_response_id": "resp_none"}),
    ]
    found = [one.prompt_cache_diagnostics for one in made]
    assert [one.type for one in found] == [
        "cache_hit",
        "cache_miss",
        "comparison_response_not_found",
    ]
    assert found[1].reason == "input_changed"
    assert first.prompt_cache_diagnostics is None
    (*_, last) = stream(web, prompt_cache_options=beside, max_output_tokens=2)
    assert last["response"]["prompt_cache_diagnostics"] == {"type": "cache_hit"}


def test_new_instructions_take_the_place_of_those_before(web, client):
    first = ask(web, "Name a river.", instructions="Be brief.")
    again = ask(web, "And a lake.", instructions="Be long.", previous_response_id=first.id)
    bare = ask(web, "And a sea.", previous_response_id=again.id)
    newest = client.sessions("plain")[0]
    texts = [m["content"] for m in client.session("plain", newest.session).messages]
    assert texts[0] == "Name a river." and "Be long." not in texts
    assert web.openai.responses.retrieve(again.id).instructions == "Be long."
    assert web.openai.responses.retrieve(bare.id).instructions is None


def test_what_is_not_stored_leads_nowhere(web, client):
    kept = ask(web, "Keep this.")
    made = ask(web, "But not that.", previous_response_id=kept.id, store=False)
    assert client.sessions("plain")[0].session.endswith("-brief")
    for wrong in (made.id, "resp_nothing", "nothing", kept.id[:-2] + "zz"):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(web, "More.", previous_response_id=wrong)
        assert caught.value.param == "previous_response_id"
        assert caught.value.code == "previous_response_not_found"
        with pytest.raises(openai.NotFoundError):
            web.openai.responses.retrieve(wrong)


def test_history_that_nobody_wants_kept_is_appended_while_it_goes_on(web, client):
    options = {
        "store": False,
        "instructions": "Be brief.",
        "include": ["reasoning.encrypted_content"],
    }
    talk = [{"role": "user", "content": LONG + "Brief."}]
    first = ask(web, talk, **options)
    talk += [*(item.model_dump() for item in first.output), {"role": "user", "content": "More."}]
    again = ask(web, talk, **options)
    assert held(first) - cached(again) <= MOST_AGAIN
    newest = client.sessions("plain")[0]
    assert newest.session.endswith("-brief") and newest.turn == 2
    ask(web, talk, **options | {"store": True})
    assert not client.sessions("plain")[0].session.endswith("-brief")


def test_deleted_response_is_gone_and_the_one_before_goes_on(web):
    first = ask(web, "Delete me.")
    second = ask(web, "Me too.", previous_response_id=first.id)
    with pytest.raises(openai.ConflictError):
        web.openai.responses.delete(first.id)
    web.openai.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        web.openai.responses.retrieve(second.id)
    assert web.openai.responses.retrieve(first.id).output_text == first.output_text
    other = ask(web, "In its place.", previous_response_id=first.id)
    for gone in (web.openai.responses.retrieve, web.openai.responses.delete):
        with pytest.raises(openai.NotFoundError):
            gone(second.id)
    with pytest.raises(openai.NotFoundError):
        ask(web, "More.", previous_response_id=second.id)
    web.openai.responses.delete(other.id)
    web.openai.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        ask(web, "More.", previous_response_id=first.id)


def test_call_of_a_namespace_comes_back_and_its_result_is_appended(web):
    tools = [NAMED, {"type": "web_search"}]
    body = {"model": "agent", "tools": tools, "tool_choice": "required", "temperature": 0.9}
    for seed in range(18, 30):  # most others think until they have to end
        events = stream(web, **body, input=LONG, seed=seed, max_output_tokens=200)
        first = Response.model_validate(events[-1]["response"])
        calls = [item for item in first.output if item.type == "function_call"]
        if calls:
            break
    call = calls[0]
    assert (call.namespace, call.name) == ("mcp__eyes__", "look")
    assert json.loads(call.arguments)["city"] in ("Rome", "Lima")
    talk = [{"role": "user", "content": LONG}, *[item.model_dump() for item in first.output]]
    talk += [
        {"type": "function_call_output", "call_id": one.call_id, "output": "Sunny."}
        for one in calls
    ]
    answer = web.http.post(
        "/v1/responses",
        json=body | {"input": talk, "tool_choice": "none", "max_output_tokens": 4},
    )
    assert answer.headers["x-hotseat-left-out"] == "tool web_search"
    again = Response.model_validate(answer.json())
    assert held(first) - cached(again) <= MOST_AGAIN


def test_reasoning_is_carried_by_the_client_and_taken_back(web):
    body = {"model": "agent", "store": False, "include": ["reasoning.encrypted_content"]}
    drawn = {"temperature": 2, "max_output_tokens": 60}
    for seed in range(12):
        answer = web.http.post(
            "/v1/responses", json=body | drawn | {"input": "Think.", "seed": seed}
        )
        thoughts = [one for one in answer.json()["output"] if one["type"] == "reasoning"]
        if thoughts:
            break
    assert thoughts[0]["encrypted_content"]
    other = thoughts[0] | {"encrypted_content": "of another server"}
    said = {"role": "assistant", "content": "So."}
    for item in (thoughts[0], other):
        talk = [{"role": "user", "content": "Think."}, item, said, {"role": "user", "content": "?"}]
        assert ask(web, talk, model="agent", store=False).usage.output_tokens == 12


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "nope"}, 404, "model_not_found", None),
        ({"input": []}, 400, "invalid_request", "input"),
        ({"conversation": "conv_1"}, 400, "unsupported_feature", "conversation"),
        ({"background": True}, 400, "unsupported_feature", "background"),
        ({"input": "word " * 9000}, 400, "context_length_exceeded", None),
        ({"tool_choice": {"type": "web_search"}}, 400, "unsupported_feature", "tool_choice.type"),
        (
            {"input": [{"type": "item_reference", "id": "x"}]},
            400,
            "unsupported_feature",
            "input[0]",
        ),
    ],
)
def test_bad_request_is_named_and_seats_nothing(web, client, body, status, code, param):
    client.swap("plain")  # long prompts of others are counted once they are seated
    before = client.status().epoch
    plain = {"model": "plain", "input": "Hi.", "tools": [{"type": "web_search"}]} | body
    answer = web.http.post("/v1/responses", json=plain)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert client.status().epoch == before


def test_input_is_counted_as_it_is_computed(web):
    first = ask(web, "Name a river.", instructions="Be brief.")
    count = web.openai.responses.input_tokens.count
    counted = count(model="plain", input="Name a river.", instructions="Be brief.")
    assert counted.input_tokens == first.usage.input_tokens
    more = {"input": "More.", "instructions": "Be brief.", "previous_response_id": first.id}
    counted = count(model="plain", **more)
    again = ask(web, more.pop("input"), **more)
    assert counted.input_tokens == again.usage.input_tokens


def test_key_of_the_seal_is_its_owners_alone(web, live):
    assert (live.home / "http-seal.key").stat().st_mode & 0o777 == 0o600
    assert httpx2.get(f"{web.url}/v1/responses/x").status_code == 401
