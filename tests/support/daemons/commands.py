"""Calls of the program, in a process of its own or in this one.

Must not know how a daemon is made: it is what has an `environment`.
"""

import json
import subprocess
import sys

from hotseat.cli.main import run

HOTSEAT = [sys.executable, "-m", "hotseat.cli.main"]


def cli(daemon, *args, stdin=None):
    """Exit code, stdout and stderr of one call of the program in the daemon's home."""
    done = subprocess.run(
        [*HOTSEAT, *args],
        env=daemon.environment(),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def cli_json(daemon, *args):
    """Exit code and the one JSON object that a `--json` call prints."""
    code, out, err = cli(daemon, *args, "--json")
    assert "Traceback" not in err, err
    assert out.count("\n") == 1, out
    return code, json.loads(out)


def call(capsys, *args):
    """Exit code, stdout and stderr of a command that runs in this process."""
    code = run(args)
    out, err = capsys.readouterr()
    return code, out, err


def call_json(capsys, *args):
    """Exit code and the one JSON object that a `--json` command of this process prints."""
    code, out, _ = call(capsys, *args, "--json")
    assert out.count("\n") == 1, out
    return code, json.loads(out)
