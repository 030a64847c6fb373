"""How this process ends before its time. Must not know models, messages or mlx."""

import os
import sys
from typing import Final, NoReturn

_MEMORY_SIGNS: Final = (
    "malloc",
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "unable to allocate",
)
_METAL_SIGN: Final = "[METAL]"
"""How mlx marks what Metal said of a command buffer, whoever waits for it first."""


class LostError(Exception):
    """Nothing that this process still did could be believed; the next one goes on."""


class WeightsLostError(LostError):
    """Weights that are read as they are needed cannot be, or are others by now."""


class GpuLostError(LostError):
    """The GPU failed under this process: nobody's request is to blame, the next worker goes on."""


def die(code: int, message: str) -> NoReturn:
    """Ends the process at once with one line on stderr; for threads that cannot raise to main."""
    sys.stderr.write(f"worker: {message}\n")
    sys.stderr.flush()
    os._exit(code)


def tells_of_memory(text: str) -> bool:
    """True if an error text of mlx says that an allocation failed; it has no class of its own."""
    return any(sign in text.lower() for sign in _MEMORY_SIGNS)


def tells_of_gpu(text: str) -> bool:
    """True if an error text of mlx says that the GPU failed, for anything but want of memory."""
    return _METAL_SIGN in text and not tells_of_memory(text)


def pass_on_loss(error: Exception) -> None:
    """Raises LostError if `error` is one, or one of the GPU: whoever catches errors calls it first.

    After a second error Metal ignores all that a process submits, so nothing that this one still
    did could be believed.
    """
    if isinstance(error, LostError):
        raise error
    if isinstance(error, RuntimeError) and tells_of_gpu(str(error)):
        raise GpuLostError(" ".join(str(error).split())) from error
