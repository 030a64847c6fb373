"""Converts a GGUF file into an MLX folder."""

from pathlib import Path

from hotseat.library.progress import OnProgress
from hotseat.protocol.errors import HotseatError


def convert_gguf(source: Path, target: Path, on_progress: OnProgress) -> str:
    """Writes the MLX files of a GGUF file into `target`; the licence the file declares."""
    del target, on_progress
    raise HotseatError("model_unavailable", f"{source}: not yet")
