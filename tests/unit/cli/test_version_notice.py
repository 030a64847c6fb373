"""A command of another version than the daemon says so, and how that is mended."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from hotseat.cli.home.connecting import version_difference
from hotseat.protocol.version import VERSION

ROOT = Path(__file__).parents[3]


def test_same_version_is_not_mentioned():
    assert version_difference(VERSION) == ""


def test_older_daemon_names_the_restart_that_saves_contexts():
    text = version_difference("0.0.9")
    assert "version 0.0.9" in text and "`hotseat service restart` saves every context" in text


def test_newer_daemon_asks_for_an_upgrade_of_the_command():
    assert "upgrade" in version_difference("0.99.0")


def test_versions_are_compared_as_numbers():
    assert "upgrade" in version_difference("0.10.0")


def test_package_takes_its_version_from_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "protocol/hotseat/protocol/version.py"
    assert version("hotseat") == VERSION
