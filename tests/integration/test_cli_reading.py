"""Commands that read state: shapes of `--json`, what people see, and no daemon."""

import json

import msgspec
import pytest
from tests.support.daemons.commands import call, call_json
from tests.support.peers.fake_daemon import FakeDaemon
from tests.support.peers.fake_views import MODELS, PLAN, SESSION, status_view

from hotseat.protocol.messages import Cancel, Plan, SessionDelete, Sessions, Status
from hotseat.protocol.replies import Event


def plain(value):
    return json.loads(msgspec.json.encode(msgspec.to_builtins(value)))


def test_status_json_is_the_daemons_status(daemon, capsys):
    code, status = call_json(capsys, "status")
    assert code == 0
    assert status == plain(status_view("one", daemon.pid))


def test_status_for_people_names_seat_queue_and_memory(daemon, capsys):
    code, out, err = call(capsys, "status")
    assert (code, err) == (0, "")
    assert "ready, smol" in out
    assert "1 running, 1 waiting (1 of them suspended; next: gemma)" in out
    assert "16.0 GiB of 24.0 GiB available" in out


def test_ps_json_shows_the_seat_only(daemon, capsys):
    code, facts = call_json(capsys, "ps")
    assert code == 0
    assert facts["model"] == "smol"
    assert facts["worker"]["pid"] == 4242
    assert "requests" not in facts


def test_ps_and_queue_for_people_are_tables(daemon, capsys):
    _, out, _ = call(capsys, "ps")
    lines = [line.split("  ") for line in out.splitlines()]
    assert out.split()[:7] == ["NAME", "STATE", "SIZE", "CONTEXT", "SESSIONS", "QUEUE", "UNTIL"]
    smol, gemma, standby = ([cell for cell in line if cell.strip()] for line in lines[2:5])
    assert [cell.strip() for cell in smol] == [
        "smol",
        "ready",
        "400.0 MiB",
        "8,192",
        "0/1",
        "1",
        "in use",
    ]
    assert [cell.strip() for cell in gemma] == [
        "gemma",
        "suspended",
        "300.0 MiB",
        "32,768",
        "0/0",
        "0+1",
        "-",
    ]
    assert standby[0] == "(standby)"
    _, out, _ = call(capsys, "queue")
    assert "abc" in out
    assert "agent" in out


def test_queue_json_has_counts_and_requests(daemon, capsys):
    code, queue = call_json(capsys, "queue")
    assert code == 0
    assert queue["queue"] == {"running": 1, "waiting": 1, "suspended": 1, "models": ["gemma"]}
    assert queue["requests"][0]["id"] == "abc"


@pytest.mark.parametrize("args", [["models"], ["models", "list"]])
def test_models_json_lists_every_view(daemon, capsys, args):
    code, models = call_json(capsys, *args)
    assert code == 0
    assert models == {"running": True, "models": plain(MODELS)}


def test_json_before_the_subcommand_counts_too(daemon, capsys):
    code, out, _ = call(capsys, "models", "--json", "list")
    assert code == 0
    assert json.loads(out)["running"] is True


def test_models_for_people_say_why_one_cannot_be_used(daemon, capsys):
    _, out, err = call(capsys, "models")
    assert "92.0 MiB" in out
    assert "mamba: recurrent state cannot be kept" in err


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("status", {"phase", "model", "epoch", "worker", "standby", "queue", "memory", "version"}),
        ("ps", {"phase", "model", "epoch", "worker", "standby"}),
        ("queue", {"queue", "requests"}),
        ("models", {"models"}),
    ],
)
def test_without_a_daemon_reading_says_so_and_exits_3(home, capsys, command, keys):
    code, answer = call_json(capsys, command)
    assert code == 3
    assert answer["running"] is False
    assert keys <= answer.keys()
    code, out, err = call(capsys, command)
    assert (code, out) == (3, "")
    assert "hotseat serve" in err


def test_without_a_daemon_memory_is_still_true(home, capsys):
    _, answer = call_json(capsys, "status")
    assert answer["memory"]["total_bytes"] > answer["memory"]["available_bytes"] > 0


@pytest.mark.parametrize(
    "args", [["sessions"], ["plan", "smol"], ["cancel", "x"], ["stop"], ["endpoint"], ["events"]]
)
def test_without_a_daemon_other_commands_fail_with_exit_3(home, capsys, args):
    code, answer = call_json(capsys, *args)
    assert code == 3
    assert answer["error"]["code"] == "daemon_unreachable"
    assert "hotseat serve" in answer["error"]["message"]


def test_plan_json_is_the_plan(daemon, capsys):
    code, plan = call_json(capsys, "plan", "smol")
    assert code == 0
    assert plan == plain(PLAN)
    assert daemon.of(Plan)[0].model == "smol"


def test_plan_for_people_names_the_binding_term_and_what_fits(daemon, capsys):
    _, out, _ = call(capsys, "plan", "smol")
    assert "15.0 GiB, set by working set" in out
    assert "4,096" in out
    assert "browser" in out


def test_sessions_are_listed_shown_and_removed(daemon, capsys):
    assert call_json(capsys, "sessions")[1] == {"sessions": [plain(SESSION)]}
    assert call_json(capsys, "sessions", "list", "--model", "smol")[0] == 0
    assert call_json(capsys, "sessions", "show", "smol", "agent")[1] == plain(SESSION)
    removed = call_json(capsys, "sessions", "rm", "smol", "agent")[1]
    assert removed == {
        "model": "smol",
        "session": "agent",
        "removed_bytes": SESSION.bytes_on_disk,
    }
    assert [message.model for message in daemon.of(Sessions)] == [None, "smol", "smol"]
    assert daemon.of(SessionDelete)[0].session == "agent"


def test_session_for_people_shows_the_conversation(daemon, capsys):
    _, out, _ = call(capsys, "sessions", "show", "smol", "agent")
    assert "[user]\nhi" in out
    assert "[assistant]\nhello" in out
    _, out, _ = call(capsys, "sessions")
    assert "27.0 MiB" in out


def test_cancel_tells_whether_there_was_something_to_end(daemon, capsys):
    code, answer = call_json(capsys, "cancel", "nothing")
    assert (code, answer) == (0, {"cancelled": False, "request_id": "nothing"})
    assert daemon.of(Cancel)[0].request_id == "nothing"


def test_events_print_one_object_per_line(daemon, capsys):
    daemon.events += [
        Event(seq=number, at=1.5, name=name, facts={"to": "gemma"})
        for number, name in ((1, "swap.started"), (2, "swap.finished"), (3, "request.done"))
    ]
    code, out, _ = call(capsys, "events", "--topic", "swap", "--json")
    assert code == 0
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2]
    _, out, _ = call(capsys, "events", "--since", "2")
    assert "request.done" in out
    assert "to=gemma" in out
    assert "swap." not in out


def test_endpoint_is_printed_in_three_ways(daemon, capsys):
    address = f"ipc://{daemon.home}/run/requests.sock"
    assert call(capsys, "endpoint")[1] == f"{address}\n"
    assert call(capsys, "endpoint", "--env")[1] == f"export HOTSEAT_ENDPOINT={address}\n"
    assert call_json(capsys, "endpoint")[1]["requests"] == address


def test_endpoint_of_a_dead_process_is_no_daemon(daemon, capsys):
    daemon.pid = 2**22 - 1
    daemon.write_endpoint()
    code, answer = call_json(capsys, "endpoint")
    assert code == 3
    assert "is gone" in answer["error"]["message"]


def test_daemons_error_keeps_code_facts_and_exit_code(daemon, capsys):
    daemon.handlers[Plan] = lambda peer, request_id, _: daemon.fail(
        peer, request_id, "unknown_model", "no model 'smoll'; near: smol", near=["smol"]
    )
    code, answer = call_json(capsys, "plan", "smoll")
    assert code == 4
    assert answer["error"]["code"] == "unknown_model"
    assert answer["error"]["facts"] == {"near": ["smol"]}
    code, out, err = call(capsys, "plan", "smoll")
    assert (code, out) == (4, "")
    assert err == "hotseat: no model 'smoll'; near: smol (unknown_model)\n"


def test_unknown_command_names_near_ones(capsys):
    code, out, err = call(capsys, "statsu")
    assert (code, out) == (2, "")
    assert "did you mean status" in err
    code, answer = call_json(capsys, "statsu")
    assert code == 2
    assert answer["error"]["code"] == "invalid_request"


def test_defect_is_a_sentence_not_a_traceback(daemon, capsys, monkeypatch):
    monkeypatch.setattr("hotseat.cli.views.seat.render_status", lambda _: 1 / 0)
    code, out, err = call(capsys, "status")
    assert (code, out) == (70, "")
    assert err.startswith("hotseat: defect in hotseat: ZeroDivisionError")
    assert "Traceback" not in err


def test_text_of_the_daemon_cannot_command_the_terminal(daemon, capsys):
    evil = msgspec.structs.replace(MODELS[0], name="\x1b[2Jevil")
    from hotseat.protocol.messages import Models
    from hotseat.protocol.replies import Reply

    daemon.handlers[Models] = lambda peer, request_id, _: daemon.send(
        peer, request_id, Reply(result={"models": [msgspec.to_builtins(evil)]})
    )
    assert "\x1b" not in call(capsys, "models")[1]


def test_no_color_is_honoured(daemon, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in call(capsys, "models")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in call(capsys, "models")[1]


def test_reading_commands_ask_only_for_what_they_show(daemon, capsys):
    call_json(capsys, "queue")
    assert len(daemon.of(Status)) == 1


def test_version_names_the_protocol(capsys):
    code, facts = call_json(capsys, "version")
    assert code == 0
    assert facts["protocol_max"] == 2


def test_help_lists_every_command(capsys):
    code, out, _ = call(capsys)
    assert code == 0
    for name in ("serve", "status", "run", "swap", "import", "demo"):
        assert f"  {name} " in out


def test_command_newer_than_the_daemon_says_so_on_stderr(home, capsys):
    with FakeDaemon(home) as daemon:
        daemon.version = "0.0.1"
        daemon.vanish()
        daemon.come_back("two")
        code, out, err = call(capsys, "models")
    assert code == 0 and out
    assert "hotseat service restart" in err
