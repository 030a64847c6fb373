"""`python -m hotseat.supervisor`: the daemon without the command line around it."""

import sys
from typing import Final

from hotseat.protocol.errors import HotseatError

EXIT_MISSING_EXTRA: Final = 69


def main() -> int:
    """Serves until it is stopped; every way to end is an exit code and at most one sentence."""
    try:
        from hotseat.supervisor.daemon.serve import serve  # noqa: PLC0415 - a base install has no structlog
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "hotseat":
            raise
        _say(f"the hotseat daemon needs {error.name}: pip install 'hotseat[daemon]'")
        return EXIT_MISSING_EXTRA
    try:
        return serve()
    except HotseatError as error:
        _say(str(error))
        return error.spec.exit_code


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - there is no log yet


if __name__ == "__main__":
    sys.exit(main())
