"""Tools, JSON answers and template arguments on the command line, and how parts are shown."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hotseat.cli.terminal.output import printable
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import ChunkPart

if TYPE_CHECKING:
    from hotseat.cli.chat.options import RunOptions
    from hotseat.client.requests import GenerateOptions

_CHOICES: Final = ("auto", "none", "required")
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def asked_form(options: "RunOptions") -> "GenerateOptions":
    """Keywords of `generate` for what was asked of the form of the answer."""
    form: GenerateOptions = {}
    if options.tools_file is not None:
        form["tools"] = _read_json(options.tools_file, "tools", list)
    if options.tool_choice is not None:
        choice = options.tool_choice
        form["tool_choice"] = choice if choice in _CHOICES else {"name": choice}
    if options.answer_format == "json":
        form["response_format"] = {"type": "json_object"}
    elif options.answer_format is not None:
        schema = _read_json(options.answer_format, "format", dict)
        form["response_format"] = {"type": "json_schema", "schema": schema}
    if options.template_arg:
        form["template_args"] = dict(_argument(given) for given in options.template_arg)
    return form


def show_part(part: ChunkPart) -> None:
    """Writes a piece of output: the answer to stdout, what belongs to it to stderr."""
    if part.type == "text":
        _write(sys.stdout, part.text)
        return
    text = part.text
    if part.type == "tool_call":
        head = f"\n[{part.id}] {part.name} " if part.name is not None else ""
        text = head + (part.arguments_delta or "")
    if sys.stderr.isatty():
        text = f"{_DIM}{printable(text)}{_PLAIN}"
    sys.stderr.write(text)
    sys.stderr.flush()


def _write(stream: Any, text: str) -> None:
    stream.write(printable(text) if stream.isatty() else text)
    stream.flush()


def _read_json(name: str, option: str, kind: type) -> Any:
    try:
        value = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HotseatError(
            "invalid_request", f"--{option}: {name} cannot be read as JSON ({error})", field=option
        ) from error
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "an object"
        text = f"--{option}: {name} holds no JSON {wanted.removeprefix('a ').removeprefix('an ')}"
        raise HotseatError("invalid_request", text, field=option)
    return value


def _argument(given: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON is that, any other is text."""
    name, equals, value = given.partition("=")
    if not equals or not name:
        text = f"--template-arg: {given!r} is not NAME=VALUE"
        raise HotseatError("invalid_request", text, field="template_args")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
