"""Parts get what they need when they are made: nothing is hung onto a finished object."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [
    path
    for root in ("protocol", "supervisor", "worker")
    for path in sorted((ROOT / root / "hotseat").rglob("*.py"))
]
ASSEMBLY = [path for path in SOURCES if path.parent.name == "assembly"]
MOST_ARGUMENTS = 8


def constructors(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            yield node


def written(node):
    """Attributes that a piece of code assigns to, as text."""
    for part in ast.walk(node):
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Attribute):
                    yield ast.unparse(one)


def too_many_arguments(tree):
    for made in constructors(tree):
        taken = [*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs]
        if len(taken) - 1 > MOST_ARGUMENTS:
            yield f"line {made.lineno}: {len(taken) - 1} arguments"


def silent_defaults(tree):
    """Callbacks that do nothing unless somebody remembers to say what."""
    for made in constructors(tree):
        defaults = [*made.args.defaults, *(one for one in made.args.kw_defaults if one)]
        values = [part.value for part in made.body if isinstance(part, ast.Assign | ast.AnnAssign)]
        for value in [*defaults, *values]:
            if isinstance(value, ast.Lambda) and isinstance(value.body, ast.Constant):
                yield f"line {value.lineno}: {ast.unparse(value)}"


def foreign_writes(tree):
    """Constructors that write into another object than the one they make."""
    for made in constructors(tree):
        for name in written(made):
            is_own = name.startswith("self.") and name.count(".") == 1
            if not is_own and not name.endswith(".restype"):  # ctypes has no other way
                yield f"line {made.lineno}: {name}"


BAD = """
class Part:
    def __init__(self, other, a, b, c, d, e, f, g, h, told=lambda _x: None):
        self.other = other
        other.on_frame = self.hear
        self.later = lambda: False
"""


def test_each_rule_finds_what_breaks_it():
    tree = ast.parse(BAD)
    assert len(list(too_many_arguments(tree))) == 1
    assert len(list(silent_defaults(tree))) == 2
    assert list(foreign_writes(tree)) == ["line 3: other.on_frame"]


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        (too_many_arguments, "hotseat"),
        (silent_defaults, "hotseat"),
        (foreign_writes, "hotseat/supervisor/"),
    ],
)
def test_constructors_keep_the_rule(rule, where):
    broken = {
        str(path.relative_to(ROOT)): found
        for path in SOURCES
        if where in str(path) and (found := list(rule(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert broken == {}


def test_layers_are_made_in_their_constructors_and_stay_as_they_are():
    assert ASSEMBLY
    for path in ASSEMBLY:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        made = [name for one in constructors(tree) for name in written(one)]
        assert sorted(made) == sorted(written(tree)), path
        assert len(set(made)) == len(made), f"{path}: made twice"
