"""Commands about who has the seat, at what price and why: release, stop MODEL, quote, why."""

import pytest
from tests.support.daemons.commands import call, call_json
from tests.support.peers.fake_views import SWAPS, WORDS

from hotseat.cli.terminal.live_line import PhaseLine
from hotseat.protocol.discovery import ENDPOINT_VARIABLE
from hotseat.protocol.messages import Generate, Quote, Release, Shutdown, Swap, Why
from hotseat.protocol.replies import Progress


def test_release_says_what_it_did(daemon, capsys):
    code, out, err = call(capsys, "release")
    assert (code, err) == (0, "releasing\n")
    assert out == (
        "smol gave the seat up in 1.2 s; 2 sessions checkpointed, 5.0 MiB written; "
        "available 8.0 GiB -> 9.0 GiB\n"
    )
    assert daemon.of(Release)[0].for_s is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_release_for_a_time_names_its_end(daemon, capsys, text, seconds):
    code, out, _ = call(capsys, "release", "--for", text)
    assert code == 0
    assert "requests leave it empty until 20" in out
    assert daemon.of(Release)[0].for_s == seconds


@pytest.mark.parametrize("text", ["90", "0s", "-5m", "soon", "3w", "1h30m"])
def test_length_without_a_meaning_is_refused(daemon, capsys, text):
    code, error = call_json(capsys, "release", f"--for={text}")
    assert code == 2
    assert "write 90s, 30m or 2h" in error["error"]["message"]
    assert daemon.of(Release) == []


def test_release_json_is_the_view(daemon, capsys):
    code, view = call_json(capsys, "release", "--for", "2h")
    assert (code, view["released"], view["until"]) == (0, "smol", 1_700_007_200.0)


def test_stop_of_the_seated_model_releases_it_and_keeps_the_daemon(daemon, capsys):
    code, view = call_json(capsys, "stop", "smol")
    assert (code, view["released"]) == (0, "smol")
    assert len(daemon.of(Release)) == 1
    assert daemon.of(Shutdown) == []


def test_stop_of_another_model_is_not_seated(daemon, capsys):
    def refuse(peer, request_id, message):
        assert message.model == "gemma", "the daemon has to know which one is meant"
        daemon.fail(peer, request_id, "not_seated", "gemma is not seated (smol is)", seated="smol")

    daemon.handlers[Release] = refuse
    code, error = call_json(capsys, "stop", "gemma")
    assert code == 6
    assert error["error"]["code"] == "not_seated"
    assert error["error"]["facts"] == {"seated": "smol"}
    assert daemon.of(Shutdown) == []


def test_quotes_are_sorted_by_total_and_the_unfit_come_last(daemon, capsys):
    code, answer = call_json(capsys, "quote", "gemma", "mamba", "never", "smol")
    assert code == 0
    totals = [(view["model"], view["total_s"]) for view in answer["quotes"]]
    assert totals == [("smol", 0.5), ("gemma", 4.0), ("never", None), ("mamba", None)]


def test_quote_without_a_model_asks_for_all(daemon, capsys):
    code, out, err = call(capsys, "quote", "--session", "agent")
    assert code == 0
    (asked,) = daemon.of(Quote)
    assert (asked.models, asked.session) == (("smol", "gemma", "mamba"), "agent")
    lines = out.splitlines()
    assert lines[0].split() == [
        "MODEL",
        "SEAT",
        "TOTAL",
        "QUEUE",
        "SWAP",
        "RESTORE",
        "PREFILL",
        "STORED",
    ]
    assert lines[2].split()[:2] == ["smol", "seated"]
    assert "512/600" in lines[3]
    assert err == "mamba: recurrent state cannot be kept on SSD yet\n"


def test_cost_that_was_never_measured_is_a_question_mark(daemon, capsys):
    _, out, _ = call(capsys, "quote", "never")
    assert out.splitlines()[2].split() == [
        "never",
        "-",
        "?",
        "0.0",
        "s",
        "?",
        "0.0",
        "s",
        "0.0",
        "s",
        "0/0",
    ]


def test_why_names_who_when_what_and_the_cost(daemon, capsys, monkeypatch):
    monkeypatch.setattr("hotseat.cli.views.quote.time.time", lambda: SWAPS[0].at + 61)
    code, out, err = call(capsys, "why")
    assert code == 0
    failed, finished = (line.strip() for line in out.splitlines()[2:])
    assert failed.startswith("1 min 1 s ago")
    assert failed.split()[5:] == ["smol", "gemma", "3.5", "s", "-", "explorer[7]", "r2", "failed"]
    assert finished.startswith("17 min 41 s ago")
    assert "coder[8]" in finished
    assert err == "r2: weights are damaged\n"


def test_why_json_takes_a_limit(daemon, capsys):
    code, answer = call_json(capsys, "why", "-n", "1")
    assert code == 0
    assert [swap["request_id"] for swap in answer["swaps"]] == ["r2"]
    assert daemon.of(Why)[0].limit == 1


@pytest.mark.parametrize("args", [("release",), ("quote",), ("why",), ("stop", "smol")])
def test_without_a_daemon_it_says_so_and_exits_3(monkeypatch, capsys, tmp_path, args):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path))
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    code, error = call_json(capsys, *args)
    assert code == 3
    assert error["error"]["code"] == "daemon_unreachable"


def test_status_and_ps_show_standby_and_suspended_requests(daemon, capsys):
    _, out, _ = call(capsys, "status")
    assert "standby    pid 4343, ready, 96.0 MiB\n" in out
    assert "1 running, 1 waiting (1 of them suspended; next: gemma)" in out
    _, out, _ = call(capsys, "ps")
    seat, waits, standby = out.splitlines()[2:]
    assert seat.split()[:2] == ["smol", "ready"]
    assert waits.split()[:2] == ["gemma", "suspended"]
    assert standby.split()[:5] == ["(standby)", "ready", "96.0", "MiB", "-"]
    _, facts = call_json(capsys, "ps")
    assert (facts["standby"]["pid"], facts["suspended"]) == (4343, 1)
    _, out, _ = call(capsys, "queue")
    assert "suspended" in out


def test_run_and_swap_pass_hints_and_mode(daemon, capsys):
    call(capsys, "run", "smol", "x", "--priority", "-2", "--deadline", "90")
    (request,) = daemon.of(Generate)
    assert (request.priority, request.deadline_s) == (-2, 90.0)
    call(capsys, "swap", "gemma", "--mode", "in-process")
    (swap,) = daemon.of(Swap)
    assert (swap.mode, swap.force, swap.unload_others) == ("in-process", False, False)
    call(capsys, "swap", "gemma", "--force", "--unload-others")
    assert (daemon.of(Swap)[1].force, daemon.of(Swap)[1].unload_others) == (True, True)


def test_pause_of_a_request_is_said_once(daemon, capsys):
    def pause(peer, request_id, request):
        daemon._generate(peer, request_id, request)
        for elapsed_s in (1.0, 1.5):
            note = Progress(phase="suspended", model="smol", elapsed_s=elapsed_s)
            daemon.send(peer, request_id, note)
        daemon.post(go_on)

    def go_on():
        daemon.pause_after = None
        for (_, request_id), work in daemon.works.items():
            daemon._pump(request_id, work)

    daemon.pause_after = 2
    daemon.handlers[Generate] = pause
    code, out, err = call(capsys, "run", "smol", "x")
    assert (code, out) == (0, "".join(WORDS) + "\n")
    assert err.count("suspended: waiting for the seat") == 1


def test_pause_line_on_a_terminal_leaves_the_text_before_it(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("hotseat.cli.terminal.live_line.sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(PhaseLine, "_start_live", lambda _self, text: shown.append(text))
    line = PhaseLine()
    line._is_live = True
    line.make_way("half a line")
    line.show(Progress(phase="suspended"))
    assert capsys.readouterr().err == "\n"
    line.make_way("whole\n")
    line.show(Progress(phase="suspended"))
    assert capsys.readouterr().err == ""
    assert shown == ["suspended: waiting for the seat"] * 2
