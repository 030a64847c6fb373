"""The token that all commands of one home share, so that `cancel` reaches what `run` began."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from hotseat.protocol.ids import is_client_token
from hotseat.protocol.limits import TOKEN_BYTES

IDENTITY_FILE: Final = "cli.token"
_PRIVATE: Final = 0o600


def shared_token(home: Path) -> str | None:
    """The stored token, made at first use; None where none can be kept."""
    path = home / "run" / IDENTITY_FILE
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        if not path.exists():
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
            with os.fdopen(file, "w") as sink:
                sink.write(secrets.token_hex(TOKEN_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # never replaces: two first commands agree on one token
        token = path.read_text()
    except OSError:
        return None
    finally:
        draft.unlink(missing_ok=True)
    return token if is_client_token(token) else None
