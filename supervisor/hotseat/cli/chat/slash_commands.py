"""What can be said to a chat besides turns: /swap, /session, /fork, /usage, /save, /help, /bye."""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hotseat.cli.chat.options import RunOptions
from hotseat.cli.terminal.output import count, duration, note
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Done

if TYPE_CHECKING:
    from hotseat.client.sync import Client


class Talk(Struct, frozen=True, kw_only=True):
    """Where a chat stands. `temporary`: sessions of its own making, removed at its end."""

    options: RunOptions
    temporary: tuple[tuple[str, str], ...] = ()
    last: Done | None = None

    @property
    def session(self) -> str:
        """A chat always has one."""
        return self.options.session or ""


class _Command(Struct, frozen=True):
    act: "Callable[[Client, Talk, str], Talk]"
    needs: str
    line: str


def obey(client: "Client", talk: Talk, line: str) -> Talk:
    """Does what a /command says. Raises `HotseatError` with what is near, or with the remedy."""
    name, _, rest = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS)
        hint = f"did you mean {' or '.join(near)}?" if near else "/help lists them"
        raise HotseatError("invalid_request", f"no command {name}; {hint}")
    if command.needs and not rest.strip():
        raise HotseatError("invalid_request", f"{name} needs {command.needs}: {name} NAME")
    return command.act(client, talk, rest.strip())


def _swap(client: "Client", talk: Talk, model: str) -> Talk:
    from hotseat.cli.terminal.live_line import PhaseLine
    from hotseat.cli.views.seat import render_swap

    with PhaseLine() as line:
        report = client.swap(model, on_progress=line.show)
    render_swap(report)
    made = talk.temporary
    if any(session == talk.session for _, session in made):
        made = (*made, (report.to, talk.session))
    options = replace(talk.options, model=report.to)
    note(f"sessions belong to a model: {report.to} begins without what was said here")
    return replace(talk, options=options, temporary=made, last=None)


def _session(client: "Client", talk: Talk, session: str) -> Talk:
    known = next(
        (view for view in client.sessions(talk.options.model) if view.session == session), None
    )
    if known is None:
        note(f"{session} is new; the next turn begins it")
    else:
        note(f"{session}: {known.turn} turns, {count(known.tokens)} tokens, {known.state}")
    return replace(talk, options=replace(talk.options, session=session), last=None)


def _fork(client: "Client", talk: Talk, to: str) -> Talk:
    change = client.fork_session(talk.options.model, talk.session, to)
    note(f"now in {change.session}, forked from {talk.session} after turn {change.turn}")
    return replace(talk, options=replace(talk.options, session=to))


def _usage(client: "Client", talk: Talk, rest: str) -> Talk:
    del rest
    done = talk.last
    if done is None:
        note("no turn yet")
        return talk
    usage, timing = done.usage, done.timing
    decoded = usage.completion_tokens / timing.decode_s if timing.decode_s else 0.0
    note(
        f"last turn: {count(usage.prompt_tokens)} tokens of prompt "
        f"({count(usage.computed_tokens)} computed, {count(usage.restored_tokens)} restored), "
        f"{count(usage.completion_tokens)} of answer at {decoded:.1f} a second; "
        f"first after {duration(timing.ttft_s)}"
    )
    view = client.session(done.model, talk.session)
    note(f"session {talk.session}: {view.turn} turns, {count(view.tokens)} tokens")
    return talk


def _save(client: "Client", talk: Talk, name: str) -> Talk:
    view = client.session(talk.options.model, talk.session)
    path = Path(name).expanduser()
    data = msgspec.json.format(msgspec.json.encode(list(view.messages or ())), indent=2)
    try:
        # Never over another file, and readable by this user only.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data + b"\n")
    except OSError as error:
        text = f"{path} cannot be written ({error.strerror}); name another file"
        raise HotseatError("invalid_request", text) from error
    note(f"{len(view.messages or ())} messages in {path}; `hotseat sessions replace` reads it")
    return talk


def _help(client: "Client", talk: Talk, rest: str) -> Talk:
    del client, rest
    for name, command in COMMANDS.items():
        note(f"{name + (' NAME' if command.needs else ''):<15} {command.line}")
    note(f"{'/bye':<15} end the chat, as Ctrl-D does; Ctrl-C ends the turn")
    return talk


COMMANDS: Final[Mapping[str, _Command]] = {
    "/swap": _Command(_swap, "a model", "go on with another model"),
    "/session": _Command(_session, "a session", "go on in another session, or begin it"),
    "/fork": _Command(_fork, "a new name", "go on in a copy; this one stays as it is"),
    "/usage": _Command(_usage, "", "tokens and times of the last turn"),
    "/save": _Command(_save, "a file", "write the messages to a JSON file"),
    "/help": _Command(_help, "", "show this"),
}
