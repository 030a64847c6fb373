"""What a process of `hotseat selftest` is asked, on stdin, and what it answers, a JSON line each.

Both ends are of the same version. Must not know how anything is measured or judged.
"""

from typing import Final

import msgspec
from msgspec import Struct


class Figure(Struct, frozen=True, kw_only=True):
    """A number that was measured, all samples; its unit is the end of its name."""

    name: str
    samples: tuple[float, ...]


class Fact(Struct, frozen=True, kw_only=True):
    """What is so and is no number."""

    name: str
    value: str


class Absent(Struct, frozen=True, kw_only=True):
    """What this system does not have, or does not tell."""

    name: str
    reason: str


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the answer; each holds all that is known by then. `is_last`: the work is done.

    `skipped`: why there was nothing to measure.
    """

    figures: tuple[Figure, ...] = ()
    facts: tuple[Fact, ...] = ()
    absent: tuple[Absent, ...] = ()
    skipped: str = ""
    is_last: bool = False


class MakeModels(Struct, frozen=True, kw_only=True, tag=True):
    """Write a small random model per name into `home` and register it there.

    `source`, if not empty, is a model to register beside them, as `chosen`.
    """

    home: str
    names: tuple[str, ...]
    source: str = ""
    adapter: str = ""
    chosen: str = ""


class TouchMemory(Struct, frozen=True, kw_only=True, tag=True):
    """Have MLX write so many bytes, one line before and one while they are held.

    Goes on with each line that comes on stdin.
    """

    size_bytes: int


class SyncFiles(Struct, frozen=True, kw_only=True, tag=True):
    """Write 4 KiB and sync, so often by each way that the system has; make links."""

    folder: str
    count: int


class StoreFile(Struct, frozen=True, kw_only=True, tag=True):
    """Write and read a KV file of this size, so often."""

    folder: str
    size_bytes: int
    count: int


class CompareSlots(Struct, frozen=True, kw_only=True, tag=True):
    """Compute with all experts of a layer and with some of them in slots, its file in `folder`."""

    folder: str


class WarmKernels(Struct, frozen=True, kw_only=True, tag=True):
    """From the start of this process to the second token and the second chunk.

    `model` is a registered model's folder, here and below.
    """

    model: str


class DecodeBare(Struct, frozen=True, kw_only=True, tag=True):
    """Generate with mlx_lm alone."""

    model: str
    prompt_tokens: int
    new_tokens: int


class DecodeEngine(Struct, frozen=True, kw_only=True, tag=True):
    """The same with the engine, for each number of rows. `chunk` 0: as the model is registered."""

    model: str
    kv_dir: str
    prompt_tokens: int
    new_tokens: int
    rows: tuple[int, ...]
    chunk: int = 0


LibraryOrder = (
    MakeModels
    | TouchMemory
    | SyncFiles
    | StoreFile
    | CompareSlots
    | WarmKernels
    | DecodeBare
    | DecodeEngine
)
LIBRARY_ORDER: Final = msgspec.json.Decoder(LibraryOrder)
MEASURED: Final = msgspec.json.Decoder(Measured)
_WORDS: Final = (
    *("a", "and", "as", "at", "but", "by", "for", "from", "in", "into", "of", "on", "or", "so"),
    *("bridge", "child", "cloud", "dinner", "evening", "garden", "harbour", "island", "kitchen"),
    *("ladder", "letter", "market", "morning", "mountain", "music", "number", "paper", "river"),
    *("road", "season", "shadow", "station", "stone", "street", "summer", "table", "teacher"),
    *("carried", "found", "followed", "held", "kept", "looked", "made", "opened", "waited"),
)


def figure(name: str, *samples: float) -> Figure:
    """A figure of these samples."""
    return Figure(name=name, samples=tuple(round(sample, 6) for sample in samples))


def sample_text(words: int, seed: int = 0) -> str:
    """So many words that no other seed begins with; the same ones each time."""
    state, found = seed * 7919 + 17, [f"Story {seed}."]
    for _ in range(words):
        state = (state * 1103515245 + 12345) % 2**31
        found.append(_WORDS[(state >> 8) % len(_WORDS)])
    return " ".join(found)
