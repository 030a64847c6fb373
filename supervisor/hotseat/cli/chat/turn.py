"""One turn on the command line: what is asked of the daemon, and how its output is shown."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import UNSET

from hotseat.cli.chat.answer_form import asked_form, show_part
from hotseat.cli.chat.options import RunOptions
from hotseat.cli.terminal.failures import EXIT_INTERRUPTED
from hotseat.cli.terminal.output import note, print_json
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sampling
from hotseat.protocol.replies import Accepted, Chunk, Done, Progress

if TYPE_CHECKING:
    from hotseat.cli.terminal.live_line import PhaseLine
    from hotseat.client.requests import GenerateOptions
    from hotseat.client.sync import Client, Stream


_SAID = ("reasoning", "tool_calls", "tool_parse_error", "note")
"""Facts of `run --json` that are there only if there is something to say."""
_PASSED_ON = {
    name: name
    for name in ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "priority")
} | {"deadline_s": "deadline_s", "repeat_penalty": "repetition_penalty"}
"""Options by name, and the keywords of `generate` that they are."""
_DRAWN = tuple(name for name in Sampling.__struct_fields__ if name not in ("seed", "logit_bias"))
StreamEvent = Accepted | Progress | Chunk
Show = Callable[[StreamEvent], None]


def run_turn(
    client: "Client", options: RunOptions, prompt: str, *, as_json: bool, as_lines: bool
) -> int:
    """Runs one turn and prints it; an interrupt cancels it and still shows its end."""
    if as_lines:
        show: Show = _print_event
    elif as_json:
        show = _show_nothing
    else:
        show = print_text
    done, was_interrupted = stream_turn(client, options, prompt, show, is_quiet=as_lines)
    if as_lines:
        print_json({"type": "done", **msgspec.to_builtins(done)})
    elif as_json:
        print_json(run_facts(done))
    elif not done.text.endswith("\n"):
        print(flush=True)
    if not (as_json or as_lines) and options.model not in (done.model, "seated"):
        note(f"{options.model}: answered by {done.model}")
    return EXIT_INTERRUPTED if was_interrupted else 0


def stream_turn(
    client: "Client",
    options: RunOptions,
    prompt: str,
    show: Show,
    *,
    is_quiet: bool = False,
) -> tuple[Done, bool]:
    """Shows a turn as it comes; Ctrl-C cancels the turn, whose end is returned all the same."""
    from hotseat.cli.terminal.live_line import PhaseLine

    request = build_input(options, prompt, is_raw=options.raw or is_raw_model(client, options))
    was_interrupted = False
    with client.generate(options.model, **request) as stream, PhaseLine() as line:
        try:
            _follow(stream, show, None if is_quiet else line)
        except KeyboardInterrupt:
            was_interrupted = True
            stream.cancel()
            _follow(stream, show, None if is_quiet else line)
        return stream.result(), was_interrupted


def _follow(stream: "Stream", show: Show, line: "PhaseLine | None") -> None:
    from hotseat.client.flow import text_of

    for event in stream.events():
        if line is not None and isinstance(event, Accepted) and event.tokens_per_s is not UNSET:
            note(f"{event.tokens_per_s:.2g} tokens a second: not all of it fits into memory")
        elif line is not None and isinstance(event, Progress):
            line.show(event)
        elif line is not None and isinstance(event, Chunk):
            line.make_way(text_of(event))
        show(event)


def is_raw_model(client: "Client", options: RunOptions) -> bool:
    """True for models without a chat template: they continue text."""
    for view in client.models():
        if view.name == options.model or (options.model == "seated" and view.state == "seated"):
            return view.append == "raw"
    return False  # unknown: the daemon says so better than we could


def build_input(options: RunOptions, prompt: str, *, is_raw: bool) -> "GenerateOptions":
    """Keywords of `generate` for this turn."""
    request = _asked(options)
    if is_raw and options.system is not None:
        raise HotseatError(
            "unsupported_feature",
            f"model {options.model!r} continues raw text and has no system message; leave out "
            "--system",
            field="system",
        )
    messages = [{"role": "user", "content": prompt}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    if options.session is not None:
        request["session"] = options.session
        request["append"] = prompt if is_raw else messages
    elif is_raw:
        request["prompt"] = prompt
    else:
        request["messages"] = messages
    return request


def _asked(options: RunOptions) -> "GenerateOptions":
    """What was asked for besides the input."""
    given = {word: getattr(options, name) for name, word in _PASSED_ON.items()}
    off = dict.fromkeys(_DRAWN, 0) if options.no_sampling_defaults else {}
    asked = off | {name: value for name, value in given.items() if value is not None}
    request = cast("GenerateOptions", asked)
    if options.stop:
        request["stop"] = options.stop
    request.update(asked_form(options))
    return request


def run_facts(done: Done) -> dict[str, Any]:
    """What `run --json` prints."""
    plain: dict[str, Any] = msgspec.to_builtins(done)
    names = ("text", "tokens", "model", "session", "turn", "finish_reason", "usage", "timing")
    facts = {name: plain[name] for name in names}
    return facts | {name: plain[name] for name in _SAID if plain[name]}


def print_text(event: StreamEvent) -> None:
    """Text as it is; without control characters when a terminal would obey them.

    Reasoning is dim and goes to stderr, as calls do when stdout is not a terminal: what is piped
    on is the answer.
    """
    if isinstance(event, Chunk):
        for part in event.parts:
            show_part(part)


def _print_event(event: StreamEvent) -> None:
    name = type(event).__name__.lower()
    line = msgspec.json.encode({"type": name, **msgspec.to_builtins(event)})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _show_nothing(event: StreamEvent) -> None:
    del event
