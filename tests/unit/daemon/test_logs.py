"""Log lines: JSON in the file, readable on the terminal, no conversation in either."""

import json
import logging
import stat

import pytest
import structlog

from hotseat.supervisor.daemon import logs


@pytest.fixture
def log_file(tmp_path):
    before = logging.raiseExceptions
    yield tmp_path / "hotseat.log"
    root = logging.getLogger()
    for handler in list(root.handlers):
        if (
            isinstance(handler, logs.PrivateRotatingHandler)
            or type(handler) is logging.StreamHandler
        ):
            root.removeHandler(handler)
            handler.close()
    logging.raiseExceptions = before
    structlog.reset_defaults()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_become_json_lines(log_file):
    logs.configure_logs(log_file, is_foreground=False)
    structlog.get_logger().info("swap.started", to="gemma", epoch=3)
    (line,) = lines(log_file)
    assert (line["event"], line["to"], line["epoch"], line["level"]) == (
        "swap.started",
        "gemma",
        3,
        "info",
    )
    assert line["timestamp"].endswith("Z")
    assert stat.S_IMODE(log_file.stat().st_mode) == 0o600


def test_other_loggers_of_the_process_are_taken_along(log_file):
    logs.configure_logs(log_file, is_foreground=False)
    logging.getLogger("asyncio").warning("slow callback %s", "x")
    assert lines(log_file)[0]["event"] == "slow callback x"


def test_conversation_never_reaches_the_log(log_file, capsys):
    logs.configure_logs(log_file, is_foreground=True)
    structlog.get_logger().info(
        "request.refused", prompt="secret words", messages=["secret"], text=b"secret", tokens=12
    )
    (line,) = lines(log_file)
    assert "secret" not in log_file.read_text() + capsys.readouterr().err
    assert (line["prompt"], line["tokens"]) == ("<str of 12>", 12)


def test_foreground_shows_readable_lines(log_file, capsys):
    logs.configure_logs(log_file, is_foreground=True)
    structlog.get_logger().info("swap.started", to="gemma")
    shown = capsys.readouterr()
    assert "swap.started" in shown.err
    assert "gemma" in shown.err
    assert "{" not in shown.err
    assert shown.out == ""


def test_background_writes_nothing_to_the_terminal(log_file, capsys):
    logs.configure_logs(log_file, is_foreground=False)
    structlog.get_logger().info("swap.started")
    assert capsys.readouterr().err == ""


def test_debug_lines_appear_when_verbose_only(log_file):
    logs.configure_logs(log_file, is_foreground=False)
    structlog.get_logger().debug("beat.received")
    logs.configure_logs(log_file, is_foreground=False, is_verbose=True)
    structlog.get_logger().debug("beat.received")
    assert len(lines(log_file)) == 1


def test_errors_keep_their_traceback_in_the_file(log_file):
    logs.configure_logs(log_file, is_foreground=False)
    try:
        [].pop()
    except IndexError:
        structlog.get_logger().exception("daemon.failed")
    assert "IndexError: pop" in lines(log_file)[0]["exception"]


def test_files_rotate_and_the_oldest_goes(log_file, monkeypatch):
    monkeypatch.setattr(logs, "FILE_BYTES", 200)
    logs.configure_logs(log_file, is_foreground=False)
    for number in range(50):
        structlog.get_logger().info("beat.received", number=number)
    files = sorted(log_file.parent.iterdir())
    assert len(files) == logs.FILES
    assert lines(log_file)[-1]["number"] == 49
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
