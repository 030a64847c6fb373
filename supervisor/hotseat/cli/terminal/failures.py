"""How failures look: one JSON object on stdout, or a line or two on stderr."""

import sys
from typing import Any, Final

import click

from hotseat.cli.terminal.output import print_json
from hotseat.protocol.errors import HotseatError

EXIT_MISSING_EXTRA: Final = 69
EXIT_INTERRUPTED: Final = 130


class MissingExtraError(Exception):
    """An optional part of hotseat is not installed; the text is the sentence for the user."""


def show_end(end: BaseException, *, as_json: bool) -> int:
    """Whatever ended a command, in words; returns the exit code."""
    match end:
        case HotseatError():
            code = show_failure(end, as_json=as_json)
        case MissingExtraError():
            code = show_missing(str(end))
        case ModuleNotFoundError() if (end.name or "").partition(".")[0] != "hotseat":
            code = show_missing(f"this needs {end.name}: pip install 'hotseat[all]'")
        case click.exceptions.Exit():
            code = end.exit_code
        case KeyboardInterrupt() | click.Abort():
            print("interrupted", file=sys.stderr)
            code = EXIT_INTERRUPTED
        case click.ClickException():
            code = show_usage_error(end, as_json=as_json)
        case _:
            what = f"defect in hotseat: {type(end).__name__}: {end}"
            error = HotseatError("internal", f"{what}; HOTSEAT_DEBUG=1 shows the traceback")
            code = show_failure(error, as_json=as_json)
    return code


def show_missing(sentence: str) -> int:
    """Says which part is not installed."""
    print(f"hotseat: {sentence}", file=sys.stderr)
    return EXIT_MISSING_EXTRA


def show_failure(error: HotseatError, *, as_json: bool) -> int:
    """Prints an error of the table; returns its exit code."""
    if as_json:
        print_json({"error": failure_facts(error)})
    else:
        print(f"hotseat: {error.message} ({error.code})", file=sys.stderr)
        if error.retry_after_s is not None:
            print(f"try again in {error.retry_after_s:g} s", file=sys.stderr)
    return error.spec.exit_code


def failure_facts(error: HotseatError) -> dict[str, Any]:
    """The JSON form of an error."""
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.spec.retryable,
        "retry_after_s": error.retry_after_s,
        "facts": error.facts,
    }


def show_usage_error(error: click.ClickException, *, as_json: bool) -> int:
    """Prints what was wrong with the command line."""
    message = error.format_message()
    if as_json:
        print_json({"error": failure_facts(HotseatError("invalid_request", message))})
        return error.exit_code
    print(f"hotseat: {message}", file=sys.stderr)
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"see `{context.command_path} --help`", file=sys.stderr)
    return error.exit_code
