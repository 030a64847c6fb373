"""Counting prompts: by the worker, by the standby, by nobody; refusals before a swap."""

import pytest
from tests.support.daemons.commands import cli_json
from tests.support.daemons.live_daemon import LiveDaemon, put_record, wait_for
from tests.support.daemons.stub_home import QUIET, error_of, register, stub_daemon, stub_record

from hotseat.protocol.model import TemplateProbe

ASK = [{"role": "user", "content": "how long is this?"}]


@pytest.fixture(scope="module")
def daemon():
    made = LiveDaemon(stub={"reply_tokens": 24}, settings=QUIET, standby=True)
    register(made, "a", "b")
    put_record(made.home, stub_record("bare", template=TemplateProbe(mode="raw")))
    put_record(made.home, stub_record("short", context_tokens=600))
    with made:
        with made.client() as client:
            client.swap("a")
            wait_for(lambda: client.status().standby.ready, what="standby ready")
        yield made
        assert "Traceback" not in made.stderr()


def test_seated_worker_counts_what_a_request_then_has(client):
    view = client.count("a", messages=ASK)
    done = client.generate("a", messages=ASK, max_tokens=1).result()
    assert (view.tokens, view.counted_by) == (done.usage.prompt_tokens, "worker")


def test_standby_counts_for_a_model_that_is_not_seated(client):
    view = client.count("b", messages=ASK)
    assert (view.counted_by, view.tokens > 0, view.fits) == ("standby", True, True)
    assert client.status().model == "a"


def test_next_turn_of_a_session_counts_what_it_holds_as_stored(client):
    client.generate("bare", append="first words;", session="s", max_tokens=4).result()
    # Workers tell five times a second what they hold.
    wait_for(lambda: client.session("bare", "s").state == "live", what="live context seen")
    held = client.session("bare", "s").tokens
    view = client.count("bare", session="s", append="and more")
    client.swap("a")
    # Behind an answer that ended full the newest token has no KV, as far as anybody knows.
    assert (view.tokens, view.stored_tokens) == (held + len("and more"), held - 1)
    cold = client.count("bare", session="s", append="and more")
    assert (cold.stored_tokens, cold.counted_by) == (held, "standby")


def test_text_of_the_prompt_comes_when_asked_for(client):
    assert client.count("a", prompt="Once upon").text is None
    assert "Once upon" in client.count("a", prompt="Once upon", render=True).text


def test_token_ids_need_nobody_to_count_them(client):
    view = client.count("b", tokens=[1, 2, 3])
    assert (view.tokens, view.counted_by) == (3, "ids")


def test_count_without_input_is_refused(client):
    assert error_of(client.count, "a").code == "invalid_request"


def test_prompt_too_long_for_an_unseated_model_is_refused_before_a_swap(client):
    before = client.status().epoch
    error = error_of(client.generate("short", prompt="x" * 700).result)
    assert (error.code, error.facts["prompt_tokens"]) == ("context_overflow", 700)
    assert (client.status().model, client.status().epoch) == ("a", before)


def test_too_many_token_ids_are_refused_before_a_swap(client):
    error = error_of(client.generate("short", tokens=[7] * 600).result)
    assert (error.code, error.facts["context_tokens"]) == ("context_overflow", 600)
    assert client.status().model == "a"


def test_quote_uses_the_count_where_a_tokenizer_is_at_hand(client):
    counted = client.count("a", messages=ASK).tokens
    view = client.quote(["a"], messages=ASK)[0]
    assert (view.prompt_tokens, view.exact) == (counted, True)


def test_command_counts_a_turn(daemon):
    code, view = cli_json(daemon, "count", "a", "how long is this?")
    assert (code, view["model"], view["counted_by"]) == (0, "a", "worker")


def test_without_a_standby_only_the_seated_model_is_counted():
    with stub_daemon("ab") as daemon, daemon.client() as client:
        error = error_of(client.count, "b", messages=ASK)
        assert (error.code, error.facts["model"]) == ("not_seated", "b")
        assert "standby is off" in error.message
        client.swap("b")
        assert client.count("b", messages=ASK).counted_by == "worker"
