"""Commands that only read start light: what is heavy is not imported for them."""

import json
import subprocess
import sys

import pytest
from tests.support.daemons.stub_home import stub_daemon

HEAVY = frozenset(
    {
        "asyncio",
        "concurrent.futures",
        "hotseat.client.aio",
        "hotseat.client.sync",
        "logging",
        "mlx",
        "psutil",
        "rich",
        "ssl",
        "structlog",
    }
)
ABSENT_HEAVY = HEAVY - {"psutil"}
"""Without a daemon the command measures the memory itself."""
RUN = """
import json, sys
from hotseat.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
DAEMON = stub_daemon


def imported(daemon, *arguments):
    """Exit code and modules of a command that ran in the daemon's home."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "--json"), ("queue", "--json"), ("ps", "--json"), ("disk", "--json")],
    ids=" ".join,
)
def test_reading_command_imports_nothing_heavy(daemon, arguments):
    code, modules = imported(daemon, *arguments)
    assert code == 0
    assert not HEAVY & modules


def test_status_without_a_daemon_imports_nothing_heavy(daemon, tmp_path):
    environment = daemon.environment() | {"HOTSEAT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, "status", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 3
    assert not ABSENT_HEAVY & set(modules)


def test_library_imports_what_is_asked_for_and_nothing_else():
    script = "import sys, hotseat.client as c; c.HotseatError; print('asyncio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_library_offers_every_name_it_lists():
    import hotseat.client as library

    assert all(getattr(library, name) is not None for name in library.__all__)
    assert set(library._HOMES) == set(library.__all__) == set(dir(library))


def test_library_says_which_name_it_does_not_have():
    import hotseat.client as library

    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        library.Klient  # noqa: B018
