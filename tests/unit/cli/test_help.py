"""The help of every command: an example that parses, `--json` where it was promised, completion."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hotseat.cli.examples import EXAMPLES
from hotseat.cli.group import cli
from hotseat.cli.main import run
from hotseat.protocol.discovery import ENDPOINT_VARIABLE
from hotseat.protocol.errors import ERRORS

ROOT = Path(__file__).parents[3]
NOT_JSON = {
    "gateway",
    "key",
    "launch",
    "serve",
    "config",
    "kv",
    "service",
    "service logs",
    "completion",
    "help",
    "top",
    "record",
}
"""They run on, only hold other commands, or print text for a shell or a person."""
ARGUMENTS = {"model": "smol", "session": "s", "to": "t", "turn": "1", "prompt": "hi", "name": "m"}


def commands():
    """Every command by its path, groups too."""
    context = click.Context(cli, info_name="hotseat")
    found = {}

    def walk(command, path):
        found[path] = command
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, f"{path} {name}")

    for name in cli.list_commands(context):
        walk(cli.get_command(context, name), name)
    return found


COMMANDS = commands()


def parses(example):
    """True when the words behind `hotseat` are a command line that click takes."""
    words = shlex.split(re.split(r"\s{2,}|&&|\|", example)[0])
    inside = next((word for word in words if word.startswith("$(hotseat")), None)
    words = shlex.split(inside[2:-1]) if inside else words
    context, command = click.Context(cli, info_name="hotseat"), cli
    assert words.pop(0) == "hotseat"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
    context = command.make_context("x", words, resilient_parsing=False)
    return context is not None


@pytest.mark.parametrize("path", COMMANDS)
def test_help_of_a_command_ends_with_its_examples(path, capsys):
    assert run(["help", *path.split()]) == 0
    text = capsys.readouterr().out
    assert f"Usage: hotseat {path}" in text
    examples = text.partition("Examples:")[2]
    assert f"hotseat {path}" in examples


@pytest.mark.parametrize(
    "example", [line for path in COMMANDS for line in EXAMPLES.get(path, ()) if ".json" not in line]
)
def test_examples_are_command_lines_that_parse(example):
    assert parses(example)


def test_no_example_is_left_of_a_command_that_is_gone():
    planned = {"bench", "top", "record", "report"}
    assert set(EXAMPLES) - set(COMMANDS) <= planned


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in NOT_JSON])
def test_commands_print_json(path):
    flags = {flag for option in COMMANDS[path].params for flag in option.opts}
    assert "--json" in flags


@pytest.mark.parametrize(
    "path",
    [
        "run",
        "swap",
        "release",
        "quote",
        "why",
        "count",
        "cancel",
        "sessions",
        "sessions show",
        "sessions rm",
        "sessions fork",
        "sessions rewind",
        "sessions pin",
        "plan",
        "events",
        "endpoint",
        "stop",
        "reload",
    ],
)
def test_command_without_a_daemon_fails_with_a_sentence_and_a_remedy(
    path, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    needed = [
        ARGUMENTS.get(param.name, "x")
        for param in COMMANDS[path].params
        if isinstance(param, click.Argument) and (param.required or param.name == "prompt")
    ]
    code = run([*path.split(), *needed])
    out, err = capsys.readouterr()
    assert (code, out) == (3, "")
    assert "hotseat serve" in err
    assert "Traceback" not in err
    if path == "events":
        return  # one object a line, and there is none
    code = run([*path.split(), *needed, "--json"])
    assert code == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "daemon_unreachable"


def test_first_screen_is_short_and_names_the_way_to_the_rest(capsys):
    run([])
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 26
    assert "hotseat help" in short
    run(["--help", "--all"])
    everything = capsys.readouterr().out
    assert {line.split()[0] for line in everything.splitlines() if line} > {
        name for name in COMMANDS if " " not in name
    }
    assert "Exit codes" in everything


@pytest.mark.parametrize(
    ("words", "near"), [(["help", "sesions"], "sessions"), (["help", "sessions", "frok"], "--help")]
)
def test_help_for_an_unknown_command_says_where_to_look(words, near, capsys):
    assert run(words) == 2
    assert near in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_asks_hotseat(shell, capsys):
    assert run(["completion", shell]) == 0
    assert f"_HOTSEAT_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_models_complete_from_the_folders_when_no_daemon_runs(tmp_path):
    for name in ("gemma", "gpt", "qwen"):
        (tmp_path / "models" / name).mkdir(parents=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith("HOTSEAT_")}
    env |= {
        "HOTSEAT_HOME": str(tmp_path),
        "_HOTSEAT_COMPLETE": "bash_complete",
        "COMP_WORDS": "hotseat swap g",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "hotseat.cli.main"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout.split() == ["plain,gemma", "plain,gpt"]


def test_exit_codes_of_the_table_are_documented():
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert {spec.exit_code for spec in ERRORS.values()} <= listed
