"""What each agent program is told, for one process: arguments and variables. Pure.

The user's own files are not read and not written. Small requests, titles and topics, go to
whatever is seated, since a model of their own would take the seat from the main one.
"""

import json
from typing import Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError

PATIENCE_MS: Final = 900_000
"""Longer than a model takes to load and to read a long prompt."""
SMALL: Final = "seated"
_ANSWER_TOKENS: Final = 32_000
_LEAST_ANSWER: Final = 4
"""At most one part in so many of a window is kept for an answer."""


class Meeting(Struct, frozen=True, kw_only=True):
    """Where the gateway is and what is asked there. `window_tokens` None: not known.

    `certificate`: of a gateway with TLS, as a file.
    """

    address: str
    key: str
    model: str
    window_tokens: int | None = None
    certificate: str | None = None


class AgentRun(Struct, frozen=True, kw_only=True):
    """`without`: variables of the user that would lead elsewhere."""

    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    without: tuple[str, ...] = ()


class Agent(Struct, frozen=True):
    """A program and where people get it."""

    program: str
    title: str
    site: str


AGENTS: Final = {
    "claude": Agent("claude", "Claude Code", "https://claude.com/claude-code"),
    "codex": Agent("codex", "Codex", "https://github.com/openai/codex"),
    "opencode": Agent("opencode", "opencode", "https://opencode.ai"),
}


def agent_run(name: str, meeting: Meeting) -> AgentRun:
    """How that program is run. Raises HotseatError (invalid_request) for an unknown one."""
    match name:
        case "claude":
            return _claude(meeting)
        case "codex":
            return AgentRun(
                arguments=tuple(part for line in codex_settings(meeting) for part in ("-c", line)),
                variables={"HOTSEAT_HTTP_KEY": meeting.key} | _trust(meeting, "SSL_CERT_FILE"),
            )
        case "opencode":
            variables = {"OPENCODE_CONFIG_CONTENT": opencode_settings(meeting)}
            return AgentRun(variables=variables | _trust(meeting, "NODE_EXTRA_CA_CERTS"))
        case _:
            text = f"no agent {name!r}; hotseat launches {', '.join(AGENTS)}"
            raise HotseatError("invalid_request", text)


def claude_variables(meeting: Meeting) -> dict[str, str]:
    """Variables of Claude Code."""
    window = {}
    if meeting.window_tokens is not None:
        window = {
            "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(meeting.window_tokens),
            "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(meeting.window_tokens),
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(answer_tokens(meeting.window_tokens)),
        }
    return {
        "ANTHROPIC_BASE_URL": meeting.address,
        "ANTHROPIC_AUTH_TOKEN": meeting.key,
        "ANTHROPIC_MODEL": meeting.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": meeting.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": meeting.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": SMALL,
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_MS),
        "API_TIMEOUT_MS": str(PATIENCE_MS),
        **window,
        **_trust(meeting, "NODE_EXTRA_CA_CERTS"),
    }


def codex_settings(meeting: Meeting) -> list[str]:
    """Settings of Codex, a TOML line each with dotted names."""
    provider = "model_providers.hotseat"
    lines = [
        f"model={_text(meeting.model)}",
        'model_provider="hotseat"',
        f'{provider}.name="hotseat"',
        f"{provider}.base_url={_text(meeting.address + '/v1')}",
        f'{provider}.env_key="HOTSEAT_HTTP_KEY"',
        f'{provider}.wire_api="responses"',
        f"{provider}.stream_idle_timeout_ms={PATIENCE_MS}",
    ]
    if meeting.window_tokens is not None:
        lines.append(f"model_context_window={meeting.window_tokens}")
    return lines


def opencode_settings(meeting: Meeting) -> str:
    """Settings of opencode as JSON; they are merged with the user's own."""
    model: dict[str, object] = {"name": meeting.model}
    if meeting.window_tokens is not None:
        output = answer_tokens(meeting.window_tokens)
        model["limit"] = {"context": meeting.window_tokens, "output": output}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "hotseat",
        "options": {
            "baseURL": f"{meeting.address}/v1",
            "apiKey": meeting.key,
            "timeout": PATIENCE_MS,
        },
        "models": {meeting.model: model, SMALL: {"name": "whatever is seated"}},
    }
    return json.dumps(
        {
            "model": f"hotseat/{meeting.model}",
            "small_model": f"hotseat/{SMALL}",
            "provider": {"hotseat": provider},
        }
    )


def answer_tokens(window_tokens: int) -> int:
    """What an answer may take of a window, so that a prompt has the better part of it."""
    return min(_ANSWER_TOKENS, max(1, window_tokens // _LEAST_ANSWER))


def _claude(meeting: Meeting) -> AgentRun:
    return AgentRun(
        variables=claude_variables(meeting),
        without=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_SMALL_FAST_MODEL",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CODE_USE_FOUNDRY",
        ),
    )


def _trust(meeting: Meeting, variable: str) -> dict[str, str]:
    return {variable: meeting.certificate} if meeting.certificate is not None else {}


def _text(value: str) -> str:
    """A string of TOML; what JSON escapes, TOML reads."""
    return json.dumps(value)
