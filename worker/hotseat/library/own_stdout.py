"""Keeps stdout for JSON lines, whatever libraries print. Must not know what the lines say."""

import os
import sys
from typing import TextIO


def take_stdout() -> TextIO:
    """The real stdout; what anything else prints there goes to stderr from now on."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return ours
