"""What is released says what becomes of contexts, and workflows take nothing by a moving name."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

from hotseat.protocol.version import VERSION

ROOT = Path(__file__).parents[3]
CHECK = runpy.run_path(str(ROOT / "deploy" / "release_check.py"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
CODE = 'VERSION: Final = "1.2.3"\n'
GOOD = """# Changelog

## [1.2.3] - 2026-01-01

Contexts: warm.

## [1.2.2]

Contexts: cold: x.
"""


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def steps(content):
    return [step for job in content["jobs"].values() for step in job.get("steps", [])]


def test_section_on_top_says_what_becomes_of_contexts():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(iter(CHECK["sections"](changelog)))
    assert CHECK["unsaid"](newest, changelog) == []


@pytest.mark.parametrize(
    ("tag", "changelog", "words"),
    [
        ("v1.2.3", GOOD, None),
        ("v1.2.4", GOOD, "the code is version 1.2.3"),
        ("1.2.3", GOOD, "tag v1.2.3"),
        ("v1.2.3", GOOD.replace("[1.2.3]", "[Unreleased]"), "no section `## [1.2.3]`"),
        ("v1.2.3", GOOD.replace("Contexts: warm.\n", ""), "lacks a line"),
        ("v1.2.3", GOOD.replace("warm.", "fine."), "lacks a line"),
    ],
)
def test_tag_is_released_only_if_version_and_changelog_agree(tag, changelog, words):
    wrong = CHECK["complaints"](tag, CODE, changelog)
    assert wrong == [] if words is None else words in " ".join(wrong)


def test_check_of_a_release_reads_the_version_of_the_code():
    text = (ROOT / "protocol/hotseat/protocol/version.py").read_text()
    assert f"the code is version {VERSION}" in CHECK["complaints"]("v0.0.0", text, GOOD)[0]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_pins_what_it_uses_and_may_write_only_where_it_publishes(path):
    content = workflow(path.name)
    used = [step["uses"] for step in steps(content) if "uses" in step]
    exact = re.compile(r"(actions/[\w-]+@v\d+\.\d+\.\d+|docker://[\w/-]+:\d+\.\d+\.\d+)")
    assert [name for name in used if not exact.fullmatch(name)] == []
    assert content["permissions"] == {"contents": "read"}
    writing = [name for name, job in content["jobs"].items() if "permissions" in job]
    assert writing in ([], ["publish"])
    assert all("timeout-minutes" in job or "uses" in job for job in content["jobs"].values())


def test_suite_runs_on_both_systems_with_every_python_that_is_promised():
    suite = workflow("ci.yml")["jobs"]["suite"]
    matrix = suite["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert [name.partition("-")[0] for name in matrix["os"]] == ["macos", "ubuntu"]
    assert [step["run"] for step in suite["steps"] if "run" in step] == ["make check", "make test"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [line for line in project["classifiers"] if "Python :: 3." in line]
    assert [line.rpartition(" ")[2] for line in promised] == PYTHONS


def test_nothing_is_published_that_the_suite_did_not_pass_and_nobody_installed():
    jobs = workflow("release.yml")["jobs"]
    assert set(jobs["publish"]["needs"]) == {"suite", "installed"}
    assert jobs["suite"]["uses"].endswith("ci.yml")
    assert any("attest-build-provenance" in step.get("uses", "") for step in steps({"jobs": jobs}))
    runs = " ".join(step.get("run", "") for step in steps({"jobs": jobs}))
    assert "sha256sum" in runs and "release_check.py" in runs
