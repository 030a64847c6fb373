"""`python -m hotseat.supervisor`: the daemon without the command line around it."""

import sys

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.serve import serve

if __name__ == "__main__":
    try:
        sys.exit(serve())
    except HotseatError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(error.spec.exit_code)
