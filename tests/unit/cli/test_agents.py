"""What agents are told: settings that their own formats can be read back from."""

import json
import shlex
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.runtimes.agents import AGENTS, Meeting, agent_run, answer_tokens
from hotseat.cli.runtimes.launching import choose_model
from hotseat.cli.runtimes.printed import agent_lines
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import MemoryView, ModelView, QueueView, StandbyView, StatusView
from hotseat.protocol.views import WorkerView as Worker

MEETING = Meeting(
    address="https://mac.lan:4687",
    key="k",
    model="gemma",
    window_tokens=40_960,
    certificate="/c.pem",
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+\- ]{0,40}", fullmatch=True)


@given(NAMES)
def test_codex_settings_are_toml(model):
    meeting = Meeting(address=MEETING.address, key="k", model=model, window_tokens=4096)
    run = agent_run("codex", meeting)
    assert set(run.arguments[::2]) == {"-c"}
    told = tomllib.loads("\n".join(run.arguments[1::2]))
    assert told["model"] == model
    assert told["model_context_window"] == 4096
    provider = told["model_providers"][told["model_provider"]]
    assert provider["base_url"] == "https://mac.lan:4687/v1"
    assert run.variables[provider["env_key"]] == "k"
    assert provider["wire_api"] == "responses"


def test_opencode_settings_name_both_models_and_their_window():
    told = json.loads(agent_run("opencode", MEETING).variables["OPENCODE_CONFIG_CONTENT"])
    models = told["provider"]["hotseat"]["models"]
    assert told["model"] == "hotseat/gemma" and told["small_model"] == "hotseat/seated"
    assert set(models) == {"gemma", "seated"}
    assert models["gemma"]["limit"] == {"context": 40_960, "output": 10_240}


def test_claude_keeps_nothing_that_leads_elsewhere():
    run = agent_run("claude", MEETING)
    assert "ANTHROPIC_API_KEY" in run.without
    assert not set(run.without) & set(run.variables)
    assert run.variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "40960"
    assert run.variables["NODE_EXTRA_CA_CERTS"] == "/c.pem"


@pytest.mark.parametrize("name", AGENTS)
def test_window_that_nobody_knows_is_not_told(name):
    run = agent_run(name, Meeting(address="http://127.0.0.1:1", key="k", model="gemma"))
    text = " ".join([*run.arguments, *run.variables, *run.variables.values()])
    assert "context_window" not in text and "CONTEXT_TOKENS" not in text and "limit" not in text


@given(st.integers(1, 2_000_000))
def test_answer_leaves_the_prompt_most_of_the_window(window):
    assert 1 <= answer_tokens(window) <= max(1, window // 4)


def test_printed_lines_are_what_a_shell_reads():
    lines = [line for line in agent_lines(MEETING) if not line.startswith("#")]
    told = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert told["OPENAI_BASE_URL"] == "https://mac.lan:4687/v1"
    assert told["ANTHROPIC_BASE_URL"] == "https://mac.lan:4687"
    assert told["ANTHROPIC_MODEL"] == "gemma"
    assert json.loads(told["OPENCODE_CONFIG_CONTENT"])["model"] == "hotseat/gemma"
    nameless = agent_lines(Meeting(address="http://127.0.0.1:1", key="k", model="seated"))
    assert not [line for line in nameless if "ANTHROPIC_MODEL" in line]


def status(seated):
    return StatusView(
        running=True,
        phase="ready",
        model=seated,
        epoch=1,
        worker=Worker(),
        standby=StandbyView(),
        queue=QueueView(),
        memory=MemoryView(total_bytes=1, available_bytes=1),
        uptime_s=1.0,
        version="1",
    )


@pytest.mark.parametrize(
    ("named", "registered", "seated", "chosen"),
    [
        (None, ["gemma"], None, "gemma"),
        (None, ["gemma", "qwen"], "qwen", "qwen"),
        ("gemma", ["gemma", "qwen"], "qwen", "gemma"),
        (None, ["gemma", "qwen"], None, "invalid_request"),
        (None, [], None, "invalid_request"),
        ("nope", ["gemma"], None, "unknown_model"),
    ],
)
def test_model_is_chosen_without_a_question_where_one_is_meant(named, registered, seated, chosen):
    views = [ModelView(name=name, state="ready") for name in registered]
    try:
        found = choose_model(named, views, status(seated)).name
    except HotseatError as error:
        found = error.code
    assert found == chosen
