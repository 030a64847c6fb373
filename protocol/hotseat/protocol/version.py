"""The version of hotseat, written once: the build reads it here, and so does every process."""

from typing import Final

VERSION: Final = "0.1.0"
