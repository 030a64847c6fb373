"""/commands of a chat, history, and what reading commands load. Stub workers, fake daemon."""

import json
import subprocess
import sys

import pytest
from tests.support.daemons.stub_home import stub_daemon
from tests.support.peers.fake_daemon import FakeDaemon

from hotseat.cli.chat.options import RunOptions
from hotseat.cli.chat.talk import run_chat

HEAVY = ("rich", "structlog", "mlx", "mlx_lm", "numpy", "sqlite3", "hotseat.supervisor")
DAEMON = stub_daemon


def talk(daemon, *lines, session="s"):
    left = iter(lines)

    def read_line(_prompt):
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    client = daemon.client()
    run_chat(client, RunOptions(model="a", session=session, max_tokens=3), read_line)
    return client


def sessions(client):
    return {(view.model, view.session): view.turn for view in client.sessions()}


def test_swap_goes_on_with_another_model(daemon, capsys):
    client = talk(daemon, "/swap b", "hi", session="swapped")
    assert client.status().model == "b"
    assert sessions(client)["b", "swapped"] == 1
    assert "begins without what was said here" in capsys.readouterr().err


def test_swap_of_a_chat_without_a_session_leaves_none_behind_on_either_model(daemon, capsys):
    before = sessions(daemon.client())
    client = talk(daemon, "hi", "/swap b", "hi", session=None)
    assert sessions(client) == before


def test_fork_goes_on_in_a_copy_and_leaves_the_session_as_it_is(daemon, capsys):
    client = talk(daemon, "one", "/fork copy", "two", session="origin")
    held = sessions(client)
    assert (held["a", "origin"], held["a", "copy"]) == (1, 2)
    assert "forked from origin after turn 1" in capsys.readouterr().err


def test_session_says_what_it_finds(daemon, capsys):
    talk(daemon, "one", "/session elsewhere", "/session known", session="known")
    err = capsys.readouterr().err
    assert "elsewhere is new" in err
    assert "known: 1 turns" in err


def test_usage_tells_the_last_turn(daemon, capsys):
    talk(daemon, "/usage", "one", "/usage", session="used")
    err = capsys.readouterr().err
    assert "no turn yet" in err
    assert "3 of answer" in err


def test_save_writes_the_messages_for_this_user_and_never_over_a_file(daemon, capsys, tmp_path):
    path = tmp_path / "talk.json"
    talk(daemon, "one", f"/save {path}", f"/save {path}", session="saved")
    assert isinstance(json.loads(path.read_text()), list)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [("/swpa b", "did you mean /swap"), ("/zz", "/help lists them"), ("/swap", "needs a model")],
)
def test_command_that_is_wrong_says_what_is_right(daemon, capsys, line, said):
    talk(daemon, line, session="wrong")
    assert said in capsys.readouterr().err


def test_error_of_a_command_does_not_end_the_chat(daemon, capsys):
    client = talk(daemon, "/swap nobody", "hi", session="goes-on")
    assert "no model is registered" in capsys.readouterr().err
    assert sessions(client)["a", "goes-on"] == 1


def test_help_names_every_command(daemon, capsys):
    talk(daemon, "/help", session="helped")
    err = capsys.readouterr().err
    assert all(name in err for name in ("/swap", "/session", "/fork", "/usage", "/save", "/bye"))


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["queue", "--json"]])
def test_status_loads_nothing_heavy(tmp_path, arguments):
    """What makes it start in 0.25 s, without a clock."""
    code = (
        "import sys\n"
        "from hotseat.cli.main import run\n"
        f"assert run({arguments!r}) == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    with FakeDaemon(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"HOTSEAT_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
