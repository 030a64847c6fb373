"""An install is repeatable: everything it brings has an exact version, and no index is named."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared():
    """Requirements of the project and of all its extras."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines if not line.startswith("hotseat[")]


def applies(requirement, extras):
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or [""])


def closure():
    """Names of everything that the installed requirements bring on this machine."""
    found = set()
    queue = [(requirement, {""}) for requirement in declared()]
    while queue:
        requirement, extras = queue.pop()
        if not applies(requirement, extras):
            continue
        name = canonicalize_name(requirement.name)
        wanted = {""} | requirement.extras
        if (name, frozenset(wanted)) in found:
            continue
        found.add((name, frozenset(wanted)))
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        queue += [(Requirement(line), wanted) for line in lines]
    return {name for name, _ in found}


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "only exact pins"
    return {canonicalize_name(name): version for name, version in pairs}


def test_everything_an_install_brings_is_pinned():
    names = closure()
    assert {"mlx-lm", "transformers", "pyzmq", "ruff"} <= names
    assert sorted(names - set(pins())) == []


def test_what_only_a_mac_installs_has_the_version_of_mlx():
    assert pins()["mlx-metal"] == pins()["mlx"] == pins()["mlx-cpu"]


def test_no_file_of_the_installation_names_an_index():
    for name in ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text()
        assert re.search(r"--(extra-)?index-url|--find-links|pypi|simple/", text) is None, name
