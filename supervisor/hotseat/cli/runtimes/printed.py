"""Lines to paste, by agent."""

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from hotseat.cli.home.connecting import CLIENT_NAME
from hotseat.cli.runtimes.agents import (
    SMALL,
    Meeting,
    claude_variables,
    codex_settings,
    opencode_settings,
)
from hotseat.protocol.errors import HotseatError

_NO_MODEL: Final = frozenset(
    {"ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL"}
)


def printed_meeting(home: Path, address: str, key: str) -> Meeting:
    """With the window of what is seated, where a daemon tells."""
    from hotseat.client.brief import BriefClient

    window = None
    with suppress(HotseatError), BriefClient(home=home, name=CLIENT_NAME) as client:
        seated = client.status().model
        window = next((v.context_tokens for v in client.models() if v.name == seated), None)
    return Meeting(address=address, key=key, model=SMALL, window_tokens=window)


def agent_lines(meeting: Meeting) -> list[str]:
    """Lines for a shell; those of files are comments in it.

    Where the model is `seated` because nobody named one, Claude Code keeps its own names: aliases
    may stand for them.
    """
    claude = claude_variables(meeting)
    if meeting.model == SMALL:
        claude = {name: value for name, value in claude.items() if name not in _NO_MODEL}
    return [
        "# OpenAI's packages, and everything built on them",
        f"export OPENAI_BASE_URL={shlex.quote(meeting.address + '/v1')}",
        f"export OPENAI_API_KEY={shlex.quote(meeting.key)}",
        "# Claude Code and Anthropic's packages",
        *(f"export {name}={shlex.quote(value)}" for name, value in claude.items()),
        "# Codex reads its key from here; its lines go to the head of ~/.codex/config.toml",
        f"export HOTSEAT_HTTP_KEY={shlex.quote(meeting.key)}",
        *(f"#   {line}" for line in codex_settings(meeting)),
        "# opencode",
        f"export OPENCODE_CONFIG_CONTENT={shlex.quote(opencode_settings(meeting))}",
    ]
