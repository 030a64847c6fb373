"""What `status` and `ps` show a person beside the plain case."""

import time

import pytest
from msgspec.structs import replace
from tests.support.peers.fake_views import MODELS, SESSION, status_view

from hotseat.cli.terminal.live_line import bar
from hotseat.cli.views.ps import PsAnswers, render_ps, seat_rows
from hotseat.cli.views.seat import render_status
from hotseat.protocol.replies import Progress
from hotseat.protocol.views import QuarantineView

STATUS = status_view("one", 1)


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
