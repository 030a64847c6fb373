"""Commands that do work: run, chat, swap, stop."""

import io
import json

import pytest
from tests.support.daemons.commands import call
from tests.support.peers.fake_views import WORDS, swap_report

from hotseat.cli.chat.options import RunOptions
from hotseat.cli.chat.talk import run_chat
from hotseat.client import Client
from hotseat.protocol.messages import Cancel, Generate, SessionDelete, Swap
from hotseat.protocol.replies import Chunk

TEXT = "".join(WORDS)


def test_run_streams_text_to_stdout_and_phases_to_stderr(daemon, capsys):
    code, out, err = call(capsys, "run", "smol", "What is the capital?")
    assert (code, out) == (0, TEXT + "\n")
    assert "prefill" in err


def test_run_json_has_exactly_the_promised_keys(daemon, capsys):
    code, out, _ = call(capsys, "run", "smol", "x", "--session", "s", "--json")
    assert code == 0
    answer = json.loads(out)
    assert list(answer) == [
        "text",
        "tokens",
        "model",
        "session",
        "turn",
        "finish_reason",
        "usage",
        "timing",
    ]
    assert answer["text"] == TEXT
    assert answer["usage"]["restored_tokens"] == 6


def test_run_jsonl_prints_every_event(daemon, capsys):
    code, out, err = call(capsys, "run", "smol", "x", "--jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line["type"] for line in lines] == [
        "accepted",
        "progress",
        *["chunk"] * len(WORDS),
        "done",
    ]


def test_run_without_a_session_is_a_single_turn(daemon, capsys):
    call(capsys, "run", "smol", "hi", "--system", "be brief")
    (request,) = daemon.of(Generate)
    assert [(m.role, m.content) for m in request.messages] == [
        ("system", "be brief"),
        ("user", "hi"),
    ]
    assert request.session is None


def test_run_with_a_session_appends_a_user_turn(daemon, capsys):
    call(capsys, "run", "smol", "hi", "--session", "s", "--max-tokens", "9", "--seed", "4")
    (request,) = daemon.of(Generate)
    assert (request.session, request.max_tokens, request.sampling.seed) == ("s", 9, 4)
    assert [(m.role, m.content) for m in request.append] == [("user", "hi")]
    assert request.messages is None


def test_run_of_a_model_without_template_continues_raw_text(daemon, capsys):
    call(capsys, "run", "gemma", "Once", "--temperature", "0.7", "--stop", "a", "--stop", "b")
    call(capsys, "run", "gemma", "Once", "--session", "s")
    single, session = daemon.of(Generate)
    assert (single.prompt, single.messages) == ("Once", None)
    assert (single.sampling.temperature, single.stop) == (0.7, ("a", "b"))
    assert session.append == "Once"


def test_run_raw_skips_the_template_of_a_chat_model(daemon, capsys):
    call(capsys, "run", "smol", "Once", "--raw")
    assert daemon.of(Generate)[0].prompt == "Once"


def test_run_raw_with_a_system_message_is_refused(daemon, capsys):
    code, out, _ = call(capsys, "run", "gemma", "x", "--system", "s", "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "unsupported_feature"
    assert daemon.of(Generate) == []


@pytest.mark.parametrize("args", [["-"], []])
def test_run_reads_the_prompt_from_a_pipe(daemon, capsys, monkeypatch, args):
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    call(capsys, "run", "smol", *args)
    assert daemon.of(Generate)[0].messages[0].content == "from a pipe"


def test_run_error_leaves_one_json_object_on_stdout(daemon, capsys):
    code, out, _ = call(capsys, "run", "smoll", "x", "--json")
    assert code == 4
    assert json.loads(out)["error"]["code"] == "unknown_model"


def test_run_out_of_range_is_refused_with_the_field(daemon, capsys):
    code, _, err = call(capsys, "run", "smol", "x", "--max-tokens", "-1")
    assert code == 2
    assert "max_tokens" in err


def test_swap_prints_phases_and_one_line(daemon, capsys):
    code, out, err = call(capsys, "swap", "gemma", "--mode", "process")
    assert code == 0
    assert out.startswith("smol -> gemma in 1.7 s (process: drain 0.1 s, checkpoint 0.2 s")
    assert out.count("\n") == 1
    assert [line.split()[0] for line in err.splitlines()] == ["draining", "loading", "warming"]
    assert daemon.of(Swap)[0].mode == "process"


def test_swap_json_is_the_report(daemon, capsys):
    code, out, _ = call(capsys, "swap", "gemma", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["from"] == "smol"
    assert report["phases"]["load_s"] == swap_report("gemma").phases.load_s
    assert set(report) == {
        "from",
        "to",
        "mode",
        "cause",
        "phases",
        "total_s",
        "memory",
        "sessions_checkpointed",
        "bytes_written",
    }


def lines_of(*lines):
    """A `read_line` for a chat: text, or an exception to raise."""
    left = list(lines)

    def read_line(_):
        line = left.pop(0)
        if isinstance(line, type):
            raise line
        return line

    return read_line


def chat(daemon, *lines, **options):
    with Client(home=daemon.home) as client:
        return run_chat(client, RunOptions(model="smol", **options), lines_of(*lines))


def test_chat_keeps_one_session_and_ends_with_bye(daemon, capsys):
    assert chat(daemon, "hi", "", "more", "/bye", session="s") == 0
    first, second = daemon.of(Generate)
    assert (first.session, second.session) == ("s", "s")
    assert second.append[0].content == "more"
    assert capsys.readouterr().out == (TEXT + "\n") * 2
    assert daemon.of(SessionDelete) == []


def test_chat_without_a_session_leaves_none_behind(daemon, capsys):
    chat(daemon, "hi", EOFError)
    (request,) = daemon.of(Generate)
    assert [(m.model, m.session) for m in daemon.of(SessionDelete)] == [("smol", request.session)]


def test_chat_sends_the_system_message_once(daemon, capsys):
    chat(daemon, "hi", "more", "/bye", session="s", system="be brief")
    roles = [[m.role for m in request.append] for request in daemon.of(Generate)]
    assert roles == [["system", "user"], ["user"]]


def test_interrupt_at_the_prompt_does_not_end_the_chat(daemon, capsys):
    chat(daemon, KeyboardInterrupt, "hi", "/bye")
    assert len(daemon.of(Generate)) == 1


def test_error_of_a_turn_does_not_end_the_chat(daemon, capsys):
    def refuse(peer, request_id, _):
        del daemon.handlers[Generate]
        daemon.fail(peer, request_id, "queue_full", "256 requests wait already")

    daemon.handlers[Generate] = refuse
    chat(daemon, "hi", "again", "/bye", session="s", system="be brief")
    out, err = capsys.readouterr()
    assert "queue_full" in err
    assert out == TEXT + "\n"
    # The refused turn left no session behind, so the system message goes with the next one.
    assert [m.role for m in daemon.of(Generate)[1].append] == ["system", "user"]


def test_interrupt_in_a_turn_cancels_the_turn_only(daemon, capsys, monkeypatch):
    daemon.pause_after = 2
    shown = []
    cancel = daemon._cancel

    def cancel_and_go_on(*arguments):
        cancel(*arguments)
        daemon.pause_after = None

    def interrupt(event):
        if isinstance(event, Chunk):
            shown.append(event)
            if len(shown) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(daemon, "_cancel", cancel_and_go_on)

    monkeypatch.setattr("hotseat.cli.chat.talk.print_text", interrupt)
    chat(daemon, "hi", "more", "/bye")
    assert len(daemon.of(Cancel)) == 1
    assert len(daemon.of(Generate)) == 2
    assert "cancelled" in capsys.readouterr().err
