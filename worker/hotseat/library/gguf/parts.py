"""Names of the files that one GGUF model was split into. Pure, and cheap to import."""

import re
from pathlib import Path
from typing import Final

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_MOST_PARTS: Final = 1000


def part_files(file: Path) -> list[Path]:
    """All files of the model that `file` is a part of, in order; itself if it is whole."""
    part = _PART.fullmatch(file.name)
    if part is None:
        return [file]
    count = min(int(part[3]), _MOST_PARTS)
    return [file.with_name(f"{part[1]}-{n:05d}-of-{part[3]}.gguf") for n in range(1, count + 1)]


def is_later_part(file: Path) -> bool:
    """True for a part that is not the first, which stands for all."""
    part = _PART.fullmatch(file.name)
    return part is not None and int(part[2]) > 1


def whole_name(file: Path) -> str:
    """The name of the model: that of the file, without its ending and its number."""
    part = _PART.fullmatch(file.name)
    return part[1] if part is not None else file.stem
