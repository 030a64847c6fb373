"""Small parts of the command line: numbers for people, the log, the library's process."""

import sys
from types import SimpleNamespace

import pytest

from hotseat.cli.chat.turn import _follow as follow
from hotseat.cli.home import library_process
from hotseat.cli.home.log_reader import follow_log, print_line, tail_log
from hotseat.cli.terminal.live_line import PhaseLine, describe
from hotseat.cli.terminal.output import duration, printable, size
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Accepted, Progress


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
    ],
)
def test_sizes_are_binary(value, shown):
    assert size(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (61, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_show_two_units(seconds, shown):
    assert duration(seconds) == shown


def test_control_characters_are_replaced_and_lines_kept():
    assert printable("a\x1b[2J\x07b\n\tä🙂") == "a�[2J�b\n\tä🙂"


def test_phases_on_a_pipe_are_said_once(capsys):
    with PhaseLine() as line:
        for percent in (1.0, 50.0):
            line.show(Progress(phase="loading", model="smol", percent=percent))
        line.show(Progress(phase="decode"))
        line.show(Progress(phase="warming", model="smol"))
    assert capsys.readouterr().err == "loading  smol  1 %\nwarming  smol\n"


@pytest.mark.parametrize(("told", "said"), [({"tokens_per_s": 0.423}, "0.42 tokens a"), ({}, "")])
def test_slow_model_is_told_before_it_answers(capsys, told, said):
    accepted = Accepted(position=0, **told)
    shown = []
    follow(SimpleNamespace(events=lambda: [accepted]), shown.append, PhaseLine())
    assert shown == [accepted]
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)


def test_phase_names_how_far_it_is():
    progress = Progress(phase="prefill", prompt_tokens_done=256, prompt_tokens=600, elapsed_s=1.25)
    assert describe(progress) == "prefill  256/600 tokens  1.2 s"
    assert describe(Progress(phase="loading", bytes_done=1024, bytes_total=2048)) == (
        "loading  1.0 KiB of 2.0 KiB"
    )
    assert describe(Progress(phase="queued", position=3)) == "queued  position 3"


def test_tail_shows_whole_lines_and_follow_goes_on_behind_them(tmp_path):
    path = tmp_path / "hotseat.log"
    path.write_text("one\ntwo\nthr")
    tail = tail_log(path, 1)
    assert tail.lines == ["two"]
    steps = iter(["ee\nfour\n", None])

    def pause(_):
        added = next(steps)
        if added is None:
            raise KeyboardInterrupt
        with path.open("a") as file:
            file.write(added)

    followed = follow_log(path, tail.position, pause)
    assert [next(followed), next(followed)] == ["three", "four"]
    with pytest.raises(KeyboardInterrupt):
        next(followed)


def test_follow_reads_a_rotated_log_from_its_start(tmp_path):
    path = tmp_path / "hotseat.log"
    path.write_text("old line that is long\n")
    position = tail_log(path, 0).position
    path.rename(tmp_path / "hotseat.log.1")
    path.write_text("new\n")
    assert next(follow_log(path, position)) == "new"


def test_no_log_says_that_no_daemon_ran(tmp_path):
    with pytest.raises(DaemonUnreachable, match="no daemon ever ran here"):
        tail_log(tmp_path / "hotseat.log", 5)


def test_log_lines_are_readable_or_raw(capsys):
    stored = '{"event": "swap.started", "level": "info", "timestamp": "T", "to": "gemma"}'
    print_line(stored, as_json=True)
    print_line(stored, as_json=False)
    print_line("no json", as_json=False)
    assert capsys.readouterr().out == f"{stored}\nT  info     swap.started  to=gemma\nno json\n"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Puts a script in place of the library's process."""

    def install(script):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(library_process.sys, "executable", str(path))

    return install


def run_library():
    steps = []
    last = library_process.run_library(["import"], lambda *step: steps.append(step))
    return last, steps


def test_library_progress_reaches_the_bar(library):
    library(
        'print(\'{"progress": {"phase": "digest", "percent": 50}}\'); print(\'{"record": null}\')'
    )
    assert run_library()[1] == [("digest", 50.0)]


def test_library_error_keeps_code_and_facts(library):
    library(
        'print(\'{"error": {"code": "model_unavailable", "message": "no", '
        '"facts": {"code": 1, "message": 2}}}\'); raise SystemExit(2)'
    )
    with pytest.raises(HotseatError) as caught:
        run_library()
    assert caught.value.code == "model_unavailable"
    assert caught.value.facts == {"code": 1, "message": 2}


def test_library_that_dies_is_quoted(library):
    library("import sys; print('chatter\\nkilled by a bug', file=sys.stderr); sys.exit(9)")
    with pytest.raises(HotseatError, match="code 9 and no answer: killed by a bug") as caught:
        run_library()
    assert caught.value.code == "internal"


def test_interrupted_library_is_an_interrupt(library):
    library("raise SystemExit(130)")
    with pytest.raises(KeyboardInterrupt):
        run_library()
