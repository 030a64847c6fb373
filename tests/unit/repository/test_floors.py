"""ARCHITECTURE.md shows the floors that import-linter guards, and what each package is for.

Written anew on purpose: `python tests/unit/repository/test_floors.py --write`.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "ARCHITECTURE.md"
TABLES = re.compile(r"(<!-- floors -->\n)(.*?)(<!-- end floors -->)", re.DOTALL)
PLACES = {
    "hotseat.supervisor": "supervisor/hotseat/supervisor",
    "hotseat.worker": "worker/hotseat/worker",
    "hotseat.cli": "supervisor/hotseat/cli",
}


def contracts():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["importlinter"]["contracts"]


def floors(container):
    """Rows of packages, the highest first."""
    found = [one for one in contracts() if one.get("containers") == [container]]
    assert len(found) == 1, f"one contract of layers for {container}"
    assert found[0]["exhaustive"], "a new package has to get its floor"
    return [[name.strip() for name in row.split("|")] for row in found[0]["layers"]]


def purpose(container, name):
    """The first line of what a package or module says of itself."""
    place = ROOT / PLACES[container] / name
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert text, file
    return text.splitlines()[0]


def table(container):
    lines = [f"| `{container}` | what it is for |\n", "|---|---|\n"]
    for row in floors(container):
        names = " · ".join(f"**{name}**" for name in row)
        told = "<br>".join(purpose(container, name) for name in row)
        lines.append(f"| {names} | {told} |\n")
    return "".join(lines)


def tables():
    return "\n".join(table(container) for container in PLACES)


def test_page_shows_the_floors_as_they_are():
    shown = TABLES.search(PAGE.read_text(encoding="utf-8"))
    assert shown is not None
    assert shown[2] == tables(), "run this file with --write"


def test_every_folder_of_rules_is_pure_by_contract():
    pure = next(one for one in contracts() if one["name"] == "rules are pure")
    assert "hotseat.supervisor.*.rules" in pure["source_modules"]
    assert {"asyncio", "time", "os", "sqlite3", "zmq"} <= set(pure["forbidden_modules"])


def test_no_package_anywhere_may_have_a_circle():
    acyclic = next(one for one in contracts() if one["type"] == "acyclic_siblings")
    roots = {f"hotseat.{path.parent.name}" for path in ROOT.glob("*/hotseat/*/__init__.py")}
    assert set(acyclic["ancestors"]) == roots


if __name__ == "__main__" and "--write" in sys.argv:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLES.sub(lambda m: m[1] + tables() + m[3], page), encoding="utf-8")
