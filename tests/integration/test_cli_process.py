"""The `hotseat` program as a process: start-up, signals, pipes, stop, restart, import."""

import json
import os
import resource
import signal
import subprocess
import sys

from tests.support.daemons.commands import HOTSEAT
from tests.support.models.tiny_models import make_tiny
from tests.support.peers.fake_views import WORDS

from hotseat.client.endpoint import endpoint_path
from hotseat.protocol.messages import Cancel, Generate


def environment(home):
    lock = str(home / "seat.lock")
    return {**os.environ, "HOTSEAT_HOME": str(home), "HOTSEAT_SEAT_LOCK": lock}


def start(home, *args, **options):
    return subprocess.Popen(
        [*HOTSEAT, *args],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def call(home, *args):
    process = start(home, *args)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_status_costs_less_than_a_quarter_second(daemon):
    def cpu_s():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    costs = []
    for _ in range(5):
        before = cpu_s()
        assert call(daemon.home, "status")[0] == 0
        costs.append(cpu_s() - before)
    # Processor time, so that a busy machine does not fail it; nothing in it waits.
    assert min(costs) < 0.25


def test_status_json_imports_neither_tables_nor_the_daemon(daemon):
    code = """
import sys
from hotseat.cli.main import run
code = run(["status", "--json"])
heavy = {"rich", "psutil", "structlog", "sqlite3", "hotseat.supervisor", "mlx", "numpy"}
print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(daemon.home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "0 []\n"


def test_exit_code_of_a_missing_daemon_reaches_the_shell(home):
    code, out, err = call(home, "run", "smol", "x")
    assert (code, out) == (3, "")
    assert err.startswith("hotseat: daemon not running")


def test_interrupt_of_run_cancels_the_request_and_exits_130(daemon):
    daemon.pause_after = 2
    process = start(daemon.home, "run", "smol", "x")
    said = "".join(WORDS[:2])
    assert process.stdout.read(len(said)) == said
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == "\n"
    assert "Traceback" not in err
    assert len(daemon.of(Cancel)) == 1


def test_interrupt_of_run_json_prints_the_cancelled_result(daemon):
    daemon.pause_after = 2
    process = start(daemon.home, "run", "smol", "x", "--json")
    daemon.wait_for(Generate)
    assert process.stderr.readline().startswith("prefill")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["finish_reason"] == "cancelled"


def test_cancel_from_another_terminal_ends_a_run(daemon):
    daemon.pause_after = 2
    process = start(daemon.home, "run", "smol", "x", "--json")
    daemon.wait_for(Generate)
    request_id = next(rid for rid, m in daemon.received if isinstance(m, Generate))
    code, out, _ = call(daemon.home, "cancel", request_id, "--json")
    assert (code, json.loads(out)["cancelled"]) == (0, True)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert json.loads(out)["finish_reason"] == "cancelled"
    assert (daemon.home / "run" / "cli.token").stat().st_mode & 0o777 == 0o600


def test_reading_leaves_no_file_behind(daemon):
    before = sorted((daemon.home / "run").iterdir())
    call(daemon.home, "status")
    call(daemon.home, "sessions")
    assert sorted((daemon.home / "run").iterdir()) == before


def test_reader_that_goes_away_ends_the_program_quietly(daemon):
    process = start(daemon.home, "models")
    process.stdout.close()
    process.wait(20)
    assert process.returncode == 141
    assert process.stderr.read().count("\n") <= 1  # why one model cannot be used
    process.stderr.close()


def test_without_click_the_program_says_what_to_install(home):
    code = """
import sys
sys.modules["click"] = None
from hotseat.cli.main import main
main(["status"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert done.stderr == "the hotseat command needs click: pip install 'hotseat[daemon]'\n"


def test_import_without_the_worker_extra_is_one_sentence(home):
    code = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "mlx_lm" else found(name, *rest)
from hotseat.cli.main import main
main(["import", "x.gguf"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert done.stderr == (
        "hotseat: importing models needs mlx_lm: pip install 'hotseat[worker]'\n"
    )


def test_stop_waits_until_the_process_is_gone(home):
    child = subprocess.Popen([sys.executable, "-m", "tests.support.peers.fake_daemon", str(home)])
    while not endpoint_path(home).exists():
        assert child.poll() is None
    code, out, _ = call(home, "stop", "--json")
    assert code == 0
    assert json.loads(out)["pid"] == child.pid
    assert child.wait(10) == 0


def test_stop_gives_up_at_its_deadline(daemon):
    """The fake daemon's process is this one, which does not end."""
    code, out, _ = call(daemon.home, "stop", "--timeout", "0.2", "--json")
    assert code == 7
    assert json.loads(out)["error"]["code"] == "deadline_exceeded"


def test_restart_starts_a_real_daemon_that_stop_ends(home):
    code, out, err = call(home, "restart", "--json")
    assert code == 0, err
    pid = json.loads(out)["pid"]
    try:
        code, out, _ = call(home, "status", "--json")
        assert code == 0
        assert json.loads(out)["pid"] == pid
    finally:
        code, out, _ = call(home, "stop", "--json")
    assert code == 0
    assert json.loads(out)["pid"] == pid
    assert call(home, "status")[0] == 3
    code, out, _ = call(home, "logs", "--json")
    assert code == 0
    assert "daemon.stopped" in out


def test_import_registers_a_real_folder_and_models_can_be_removed(home):
    source = make_tiny(home / "source", "llama")
    code, out, err = call(home, "import", str(source), "--name", "tiny", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert (record["name"], record["path"]) == ("tiny", str(source))
    assert "libraries" in err
    assert call(home, "models", "rm", "tiny", "--json")[0] == 0
    assert (source / "config.json").exists()
    code, out, _ = call(home, "models", "rm", "tiny", "--json")
    assert code == 4
    assert json.loads(out)["error"]["code"] == "unknown_model"


def test_import_of_nothing_is_a_typed_error(home):
    code, out, _ = call(home, "import", str(home / "nothing.gguf"), "--json")
    assert code != 0
    error = json.loads(out)["error"]
    assert "nothing.gguf" in error["message"]
    assert error["code"] != "internal"


def test_seated_model_is_not_removed(daemon):
    code, out, _ = call(daemon.home, "models", "rm", "smol", "--json")
    assert code == 2
    assert "seated" in json.loads(out)["error"]["message"]
