"""Entry point of `hotseat`: turns every way to end into an exit code, never into a traceback.

Must not import click or anything heavy at the top: a base install has no click, and start-up
time is a feature.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

EXIT_MISSING_EXTRA: Final = 69
EXIT_BROKEN_PIPE: Final = 141
DEBUG_VARIABLE: Final = "HOTSEAT_DEBUG"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output is gone; nothing is left to say to anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    try:
        import click

        from hotseat.cli.group import cli
        from hotseat.cli.terminal.failures import show_end
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "hotseat":
            raise
        missing = f"the hotseat command needs {error.name}"
        print(f"{missing}: pip install 'hotseat[daemon]'", file=sys.stderr)
        return EXIT_MISSING_EXTRA
    try:
        result = cli.main(list(args), prog_name="hotseat", standalone_mode=False)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as end:
        if os.environ.get(DEBUG_VARIABLE) and not isinstance(end, click.ClickException):
            raise
        return show_end(end, as_json=bool({"--json", "--jsonl"} & set(args)))
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
