"""What `status` and `ps` show a person beside the plain case."""

import time

import pytest
from msgspec.structs import replace
from tests.support.peers.fake_views import MODELS, QUOTES, SESSION, status_view, swap_report
from tests.support.peers.mac_host import PAGE, mac_host

from hotseat.cli.terminal.live_line import bar
from hotseat.cli.views.ps import PsAnswers, render_ps, seat_rows
from hotseat.cli.views.quote import render_quotes
from hotseat.cli.views.seat import render_status, render_swap
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.replies import Progress
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.views import QuarantineView

STATUS = status_view("one", 1)
STREAMED = StreamedView(
    mode="layers",
    held=10,
    of=24,
    resident_bytes=900 * MIB,
    step_bytes=480 * MIB,
    tokens_per_s=2.123,
)


def shown(capsys, **fields):
    render_status(replace(STATUS, **fields))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("retry_in_s", "way_out"),
    [(42.0, "tried again in 42.0 s"), (None, "`hotseat swap gemma` seats it")],
)
def test_quarantined_model_is_shown_with_reason_and_way_out(capsys, retry_in_s, way_out):
    entry = QuarantineView(model="gemma", reason="weights are damaged", retry_in_s=retry_in_s)
    out = shown(capsys, quarantined=(entry,))
    assert f"quarantined  gemma: weights are damaged; {way_out}" in out


def test_seat_given_up_for_a_time_shows_until_when(capsys):
    until = time.time() + 60.0
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    assert f"until {clock}" in shown(capsys, released_until=until)


def test_pages_of_a_mac_are_told_in_the_words_of_its_monitor(capsys):
    counts = {
        "free_count": GIB // PAGE,
        "wire_count": 3 * GIB // PAGE,
        "internal_page_count": 10 * GIB // PAGE,
        "purgeable_count": GIB // PAGE,
        "external_page_count": 4 * GIB // PAGE,
        "compressor_page_count": 2 * GIB // PAGE,
    }
    memory = replace(STATUS.memory, pages=mac_host(**counts).pages())
    told = "programs 9.0 GiB, wired 3.0 GiB, compressed 2.0 GiB, cached 5.0 GiB, free 1.0 GiB"
    assert told in shown(capsys, memory=memory)
    assert "programs" not in shown(capsys)


def test_model_that_does_not_fit_shows_what_is_in_memory_and_what_a_token_reads(capsys):
    line = "10 of 24 layers in memory, 480.0 MiB read a token at most"
    assert f"weights    {line}, 2.1 tokens/s\n" in shown(capsys, streamed=STREAMED)
    unknown = replace(STREAMED, tokens_per_s=None)
    assert f"{line}\n" in shown(capsys, streamed=unknown)
    assert "weights" not in shown(capsys)
    render_quotes([replace(QUOTES[0], streamed=STREAMED)])
    assert f"gemma: {line}, 2.1 tokens/s" in capsys.readouterr().err


def test_errors_of_the_gpu_are_counted_where_there_were_any(capsys):
    assert "GPU errors  2" in shown(capsys, gpu_errors=2)
    assert "GPU" not in shown(capsys)


def test_swap_after_which_pages_stayed_wired_says_so(capsys):
    report = swap_report("gemma")
    render_swap(replace(report, memory=replace(report.memory, wired_not_back_bytes=2 * GIB)))
    assert "still has 2.0 GiB wired" in capsys.readouterr().err
    render_swap(report)
    assert capsys.readouterr().err == ""


def test_machine_kept_awake_is_shown_with_the_reason(capsys):
    assert "kept from idle sleep: swap" in shown(capsys, keeps_awake="swap")
    assert "idle sleep" not in shown(capsys)


def until(capsys, **fields):
    quiet = replace(STATUS, requests=(), queue=replace(STATUS.queue, running=0, models=()))
    render_ps(PsAnswers(status=replace(quiet, **fields), models=MODELS, sessions=(SESSION,)))
    return capsys.readouterr().out.splitlines()[2].rstrip()


def test_ps_says_when_an_idle_model_gives_the_seat_up(capsys):
    assert until(capsys, seated_until=time.time() + 600.5).endswith("in 10 min")
    assert until(capsys, seated_until=None).endswith("pinned")


def test_ps_counts_sessions_and_requests_of_each_model_apart():
    live = replace(SESSION, session="now", state="live")
    rows = seat_rows(PsAnswers(status=STATUS, models=MODELS, sessions=(SESSION, live)))
    counted = [(r.name, r.sessions_live, r.sessions_cold, r.running, r.waiting) for r in rows]
    assert counted == [("smol", 1, 1, 1, 0), ("gemma", 0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("percent", "drawn"),
    [(None, ""), (0.0, "  " + "╌" * 24 + " 0 %"), (100.0, "━" * 24 + " 100 %")],
)
def test_bar_of_a_load_says_how_far_it_is(percent, drawn):
    assert bar(Progress(phase="loading", percent=percent)).endswith(drawn)
