"""What the pages point to exists: links, files named in backticks, commands of the program."""

import re
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest

from hotseat.cli.group import cli

ROOT = Path(__file__).parents[3]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`([\w./-]+/[\w./-]+\.(?:py|md|toml))`")
COMMAND = re.compile(r"(?:^\$ |`)hotseat ([a-z]+)\b(.*)$", re.MULTILINE)
FLAG = re.compile(r"(?<=\s)--[a-z-]+")


@cache
def files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")]
    return listed.stdout.splitlines()


def pages():
    return pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@pages()
def test_links_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [name for name in targets if not (page.parent / name).exists()] == []


@pages()
def test_files_that_are_named_exist(page):
    """Paths below a source root are written without it: `seat/rules/table.py`."""
    known = files()
    named = FILE.findall(page.read_text(encoding="utf-8"))
    assert [
        name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)
    ] == []


@pages()
def test_commands_that_are_shown_exist(page):
    context = click.Context(cli)
    unknown = []
    for name, rest in COMMAND.findall(page.read_text(encoding="utf-8")):
        command = cli.get_command(context, name)
        known = {flag for option in command.params for flag in option.opts} if command else set()
        shown = rest.partition("`")[0].partition("  #")[0].partition(";")[0]
        flags = set(FLAG.findall(shown)) - {"--help"}
        if command is None or not flags <= known:
            unknown.append(f"{name}{shown}")
    assert unknown == []


def test_pages_hold_no_placeholders():
    assert [page.name for page in PAGES if "@@" in page.read_text(encoding="utf-8")] == []
