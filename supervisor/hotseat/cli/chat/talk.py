"""A conversation in the terminal: reads lines, shows turns, knows /commands."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from hotseat.cli.chat.options import RunOptions
from hotseat.cli.chat.slash_commands import Talk, obey
from hotseat.cli.chat.turn import print_text, stream_turn
from hotseat.cli.terminal.output import note
from hotseat.client.endpoint import find_home
from hotseat.protocol.errors import HotseatError

if TYPE_CHECKING:
    from hotseat.client.sync import Client

_PROMPT: Final = ">>> "
_LEAVE: Final = frozenset({"/bye", "/exit", "/quit"})
_HISTORY: Final = "chat_history"
_HISTORY_LINES: Final = 1000


def run_chat(
    client: "Client", options: RunOptions, read_line: Callable[[str], str] | None = None
) -> int:
    """Talks until /bye or the end of input. A chat without --session leaves nothing behind."""
    talk = Talk(options=options)
    if options.session is None:
        session = f"chat-{secrets.token_hex(4)}"
        options = replace(options, session=session)
        talk = Talk(options=options, temporary=((options.model, session),))
    note("/help shows what else there is, /bye or Ctrl-D ends the chat, Ctrl-C the turn")
    with contextlib.ExitStack() as stack:
        if read_line is None:
            stack.enter_context(_line_editing(find_home() / _HISTORY))
            read_line = input
        _talk(client, talk, read_line)
    return 0


@contextlib.contextmanager
def _line_editing(history: Path) -> Iterator[None]:
    """Gives `input` editing and the lines of earlier chats; the file is for this user only."""
    try:
        import readline
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))
            readline.set_history_length(_HISTORY_LINES)
            readline.write_history_file(history)


def _talk(client: "Client", talk: Talk, read_line: Callable[[str], str]) -> None:
    """What was temporary is removed, by whatever way it ends."""
    try:
        while True:
            try:
                line = read_line(_PROMPT)
            except EOFError:
                print()
                break
            except KeyboardInterrupt:
                note("\n/bye ends the chat")
                continue
            if line.strip() in _LEAVE:
                break
            if line.strip():
                talk = _answer(client, talk, line)
    finally:
        for model, session in talk.temporary:
            with contextlib.suppress(HotseatError):
                client.delete_session(model, session)


def _answer(client: "Client", talk: Talk, line: str) -> Talk:
    """A command or a turn; an error ends it, not the chat."""
    try:
        return (
            obey(client, talk, line) if line.lstrip().startswith("/") else _say(client, talk, line)
        )
    except HotseatError as error:
        note(f"{error.message} ({error.code})")
    except KeyboardInterrupt:
        note("interrupted")
    return talk


def _say(client: "Client", talk: Talk, line: str) -> Talk:
    done, _ = stream_turn(client, talk.options, line, print_text)
    if not done.text.endswith("\n"):
        print()
    if done.finish_reason == "cancelled":
        note("cancelled")
    # The session holds the system message from its first turn on.
    return replace(talk, options=replace(talk.options, system=None), last=done)
