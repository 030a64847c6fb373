"""Pages that stay wired are told of once, and again only after some came back."""

from types import SimpleNamespace

from hotseat.protocol.limits import GIB
from hotseat.supervisor.dispatch.seat_news import SeatAnnouncer
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.seat.rules.states import Fault
from hotseat.supervisor.seat.rules.wired import Strands
from hotseat.supervisor.seat.worker_process import WorkerExit


class Announcer:
    """One whose events and figures can be looked at; it has no requests and no swaps."""

    def __init__(self):
        self.events = []
        self.figures = Figures()
        log = EventLog(self.events.append)
        nobody = dict.fromkeys(("works", "runs", "outbox", "swaps", "releases"), SimpleNamespace())
        self.news = SeatAnnouncer(**nobody, events=log, figures=self.figures, own=OwnMemory())


def test_restart_of_the_mac_is_asked_for_once_until_pages_come_back():
    said = Announcer()
    for in_a_row in (1, 2, 3, 4, 5, 0, 1, 2, 3):
        said.news.pages_judged(Strands(in_a_row=in_a_row, not_back_bytes=2 * GIB))
        assert bool(said.figures.pages_notice) == (in_a_row >= 3)
    assert "restart the Mac" in said.figures.pages_notice
    assert [event.name for event in said.events] == ["system.pages_stranded"] * 2
    assert said.events[0].facts["wired_not_back_bytes"] == 2 * GIB


def test_loss_of_the_gpu_is_counted_and_told_by_its_class_alone():
    said = Announcer()
    ended = WorkerExit(epoch=3, pid=7, returncode=80, sent=(), stderr=())
    said.news.worker_exited(ended, Fault(code="worker_lost", message="x", gpu="y"), asked=False)
    said.news.worker_exited(ended, Fault(code="worker_lost", message="x"), asked=False)
    assert said.figures.gpu_errors == 1
    assert said.events[0].name == "worker.gpu_lost"
    assert said.events[0].facts == {"epoch": 3, "reason": "y", "since_start": 1}
