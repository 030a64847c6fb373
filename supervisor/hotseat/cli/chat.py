"""A conversation in the terminal: reads lines, shows turns, knows /bye."""

import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from hotseat.cli.output import note
from hotseat.cli.turns import RunOptions, print_chunk, stream_turn
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Accepted, Chunk, Progress

if TYPE_CHECKING:
    from hotseat.client.sync import Client

_PROMPT: Final = ">>> "
_LEAVE: Final = frozenset({"/bye", "/exit", "/quit"})


def run_chat(
    client: "Client", options: RunOptions, read_line: Callable[[str], str] | None = None
) -> int:
    """Talks until /bye or the end of input. A chat without --session leaves nothing behind."""
    if read_line is None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - importing it gives input() history and editing
        read_line = input
    is_temporary = options.session is None
    if is_temporary:
        options = replace(options, session=f"chat-{secrets.token_hex(4)}")
    note("/bye or Ctrl-D ends the chat, Ctrl-C the turn")
    try:
        _talk(client, options, read_line)
    finally:
        if is_temporary and options.session is not None:
            with contextlib.suppress(HotseatError):
                client.delete_session(options.model, options.session)
    return 0


def _talk(client: "Client", options: RunOptions, read_line: Callable[[str], str]) -> None:
    while True:
        try:
            line = read_line(_PROMPT)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            note("\n/bye ends the chat")
            continue
        if line.strip() in _LEAVE:
            return
        if line.strip() and _say(client, options, line):
            # The session holds the system message from its first turn on.
            options = replace(options, system=None)


def _say(client: "Client", options: RunOptions, line: str) -> bool:
    """One turn; an error ends the turn, not the chat. True when the session has the turn."""
    try:
        done, _ = stream_turn(client, options, line, _print)
    except HotseatError as error:
        note(f"{error.message} ({error.code})")
        return False
    if not done.text.endswith("\n"):
        print()
    if done.finish_reason == "cancelled":
        note("cancelled")
    return True


def _print(event: Accepted | Progress | Chunk) -> None:
    if isinstance(event, Chunk):
        print_chunk(event)
