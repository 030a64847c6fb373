"""Files and functions stay small enough to read, and nothing is laid out by hand to get there."""

import ast
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
FILE_LINES = 400
FUNCTION_LINES = 60
BY_HAND = re.compile(r"#\s*fmt:\s*(?:skip|off)")


class Source(NamedTuple):
    name: str
    text: str


def sources():
    """Every Python file that git knows or would take in."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "*.py"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    names = sorted(name for name in done.stdout.split("\0") if name and (ROOT / name).exists())
    return [Source(name, (ROOT / name).read_text()) for name in names]


def long_files(found):
    counts = {source.name: len(source.text.splitlines()) for source in found}
    return [f"{name}: {lines} lines" for name, lines in counts.items() if lines > FILE_LINES]


def long_functions(found):
    """Nested functions and methods count for themselves and for what they stand in."""
    told = []
    for source in found:
        for node in ast.walk(ast.parse(source.text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    told.append(f"{source.name}: {node.name} has {lines} lines")
    return told


def hand_laid(found):
    return [
        f"{source.name}:{number}"
        for source in found
        for number, line in enumerate(source.text.splitlines(), 1)
        if BY_HAND.search(line)
    ]


def test_no_file_is_above_four_hundred_lines():
    found = sources()
    assert {"protocol", "supervisor", "worker", "tests", "benchmarks", "examples"} <= {
        source.name.partition("/")[0] for source in found
    }
    assert long_files(found) == []


def test_no_function_is_above_sixty_lines():
    assert long_functions(sources()) == []


def test_the_formatter_has_the_last_word():
    assert hand_laid(sources()) == []


@pytest.mark.parametrize(
    ("shape", "indent"),
    [
        ("def f():\n{}", 1),
        ("async def f():\n{}", 1),
        ("class C:\n    def f(self):\n{}", 2),
        ("def g():\n    async def f():\n{}", 2),
    ],
)
def test_function_of_one_line_too_many_is_found(shape, indent):
    line = "    " * indent + "pass\n"
    fits = Source("made_up.py", shape.format(line * (FUNCTION_LINES - 1)))
    over = Source("made_up.py", shape.format(line * FUNCTION_LINES))
    assert "made_up.py: f has 61 lines" in long_functions([over])
    assert "f has" not in " ".join(long_functions([fits]))


def test_file_of_one_line_too_many_is_found():
    fits, over = (Source("made_up.py", "x = 1\n" * lines) for lines in (FILE_LINES, FILE_LINES + 1))
    assert long_files([fits, over]) == ["made_up.py: 401 lines"]


@pytest.mark.parametrize("mark", ["skip", "off"])
def test_line_laid_out_by_hand_is_found(mark):
    source = Source("made_up.py", f"y = 2\nx = [1,\n     2]  # {'fmt'}: {mark}\n")
    assert hand_laid([source]) == ["made_up.py:3"]
