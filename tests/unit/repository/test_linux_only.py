"""Tests that need Linux say so with one marker; what varies on Metal is measured there."""

import ast
import re
import sys
from pathlib import Path

import pytest
from tests.conftest import MARKER, reason_to_skip
from tests.support.engine.beside_others import (
    DivergenceOnMetal,
    expect_as_alone,
    first_difference,
)

TESTS = Path(__file__).parents[2]
LINUX = re.compile(
    r"""["'f]/proc/(?!1/fd/x)|\bpidfd_open\b|\bprctl\b|\bRLIMIT_AS\b|\bmalloc_trim\b|\bRWF_NOWAIT\b"""
    r"""|\bsched_setaffinity\b|\bSO_PEERCRED\b|/sys/fs/cgroup"""
)
GUARDED = {
    "support/stub_worker/faults.py": "a fault that its row asks for with the marker",
    "faults/conftest.py": "looks at environments as cheaply as the system allows",
    "unit/repository/test_layering.py": "looks into the processes as well where that can be done",
    "unit/repository/test_linux_only.py": "names what it looks for",
}


def pieces(text):
    """Top-level pieces of a module by name: functions, classes, what is assigned; their nodes."""
    for node in ast.parse(text).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node
        name = getattr(target, "id", None) or getattr(target, "name", None) or f"_{node.lineno}"
        yield name, node


def decorators(node):
    return " ".join(map(ast.unparse, getattr(node, "decorator_list", [])))


def mentions(text, names):
    return any(re.search(rf"\b{re.escape(name)}\b", text) for name in names)


def unmarked(path):
    """Tests that reach what only Linux has, also by pieces of their file, without the marker."""
    text = path.read_text(encoding="utf-8")
    if not LINUX.search(text) or re.search(rf"^pytestmark = .*{MARKER}", text, re.MULTILINE):
        return []
    nodes = dict(pieces(text))
    source = {name: ast.get_source_segment(text, node) or "" for name, node in nodes.items()}
    reaching = {name for name, body in source.items() if LINUX.search(body)}
    for _ in source:
        reaching |= {name for name, body in source.items() if mentions(body, reaching)}
    marking = {MARKER} | {name for name, body in source.items() if f"mark.{MARKER}" in body}
    marked = {name for name, node in nodes.items() if mentions(decorators(node), marking)}
    return sorted(name for name in reaching - marked if name.startswith("test_"))


def test_no_test_reaches_what_only_linux_has_without_the_marker():
    found = {}
    for path in sorted(TESTS.rglob("*.py")):
        name = str(path.relative_to(TESTS))
        if name not in GUARDED and (tests := unmarked(path)):
            found[name] = tests
    assert found == {}


SAMPLE = f"""
FILE = "/proc/self/statm"


def pages():
    return open(FILE)


def helper():
    return pages()


def test_reaches_it():
    helper()


@pytest.mark.{MARKER}("pages")
def test_says_so():
    helper()


def test_needs_none():
    pass
"""


def test_check_finds_a_test_that_reaches_it_by_a_helper(tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text(SAMPLE)
    assert unmarked(path) == ["test_reaches_it"]


def test_linux_only_tests_are_skipped_by_their_marker_alone():
    pattern = re.compile(r"skipif\(.*(sys\.platform|platform\.|RWF_)")
    found = [
        str(path.relative_to(TESTS))
        for path in sorted(TESTS.rglob("test_*.py"))
        if path.name != Path(__file__).name and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("system", "expected"), [("linux", ""), ("darwin", "only on Linux: reads pages")]
)
def test_marker_skips_elsewhere_with_its_reason(system, expected):
    mark = getattr(pytest.mark, MARKER)("reads pages").mark
    assert reason_to_skip(mark, system) == expected


def test_marker_without_a_reason_is_a_defect():
    with pytest.raises(TypeError):
        reason_to_skip(getattr(pytest.mark, MARKER).mark, sys.platform)


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([], [], None)],
)
def test_first_difference_of_two_answers(one, other, place):
    assert first_difference(one, other) == place


def test_divergence_fails_on_a_cpu_and_is_told_on_metal():
    with pytest.raises(AssertionError):
        expect_as_alone([1, 2, 3], [1, 2, 4], on_metal=False)
    with pytest.warns(DivergenceOnMetal, match="another token at 2 of 3"):
        expect_as_alone([1, 2, 3], [1, 2, 4], on_metal=True)
