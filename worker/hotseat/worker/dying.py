"""How this process ends before its time. Must not know models, messages or mlx."""

import os
import sys
from typing import Final, NoReturn

_MEMORY_SIGNS: Final = ("malloc", "out of memory", "insufficient memory", "unable to allocate")


def die(code: int, message: str) -> NoReturn:
    """Ends the process at once with one line on stderr; for threads that cannot raise to main."""
    sys.stderr.write(f"worker: {message}\n")
    sys.stderr.flush()
    os._exit(code)


def tells_of_memory(text: str) -> bool:
    """True if an error text of mlx says that an allocation failed; it has no class of its own."""
    return any(sign in text.lower() for sign in _MEMORY_SIGNS)
