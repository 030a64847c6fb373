"""Exit codes by which a worker process says why it ended. Pure; must not import anything.

Numbers follow sysexits where one fits. 1 is left to the interpreter and to faulthandler, 2 to
argparse, and a negative `Popen.returncode` names the signal.
"""

from typing import Final

EX_OK: Final = 0
"""An asked-for stop: everything was written first."""
EX_USAGE: Final = 64
"""Wrong arguments, or no secret on the inherited pipe."""
EX_BAD_MODEL: Final = 65
"""The model cannot be run by this worker; the same files will fail again."""
EX_LIBRARIES: Final = 69
"""mlx or mlx-lm cannot be imported."""
EX_INTERNAL: Final = 70
"""A defect: the traceback is on stderr."""
EX_OUT_OF_MEMORY: Final = 71
"""An allocation failed."""
EX_PROTOCOL: Final = 76
"""A frame on the link could not be decoded: the two ends are of different builds."""
EX_ORPHAN: Final = 79
"""The supervisor is gone."""
EX_GPU: Final = 80
"""The GPU failed under this process, which may be denied it from now on; the next one is not."""
EX_WEIGHTS: Final = 81
"""Weights that are read as they are needed cannot be: their file ended, changed or failed."""

PERMANENT: Final = frozenset({EX_USAGE, EX_BAD_MODEL, EX_LIBRARIES, EX_PROTOCOL})
"""Starting the same worker again with the same model cannot help."""

_MEANINGS: Final = {
    EX_OK: "stopped as asked",
    EX_USAGE: "was started with wrong arguments",
    EX_BAD_MODEL: "cannot run this model",
    EX_LIBRARIES: "cannot import mlx or mlx-lm",
    EX_INTERNAL: "ended by a defect in hotseat",
    EX_OUT_OF_MEMORY: "ran out of memory",
    EX_PROTOCOL: "received a frame that is not of this version",
    EX_ORPHAN: "lost its supervisor",
    EX_GPU: "lost the GPU",
    EX_WEIGHTS: "lost the files of its weights",
}


def exit_meaning(code: int) -> str:
    """Completes the sentence "the worker ..." for an exit code (not a signal)."""
    return _MEANINGS.get(code, f"exited with code {code}")
