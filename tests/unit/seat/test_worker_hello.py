"""A worker is greeted if it shows its secret and is of the daemon's code."""

import signal
from types import SimpleNamespace

from hotseat.protocol.installed_code import Code
from hotseat.protocol.link_reports import WorkerHello
from hotseat.supervisor.machine.running_code import RunningCode
from hotseat.supervisor.seat.rules.states import Greeted, StartRefused
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.worker_messages import WorkerMessages

SHOWN = "s"
OWN = Code(version="1.0", digest="own")


def greet(code="own", shown=SHOWN):
    """Events that the table got, and signals that the process got."""
    fed, signals = [], []
    seat = Seat(RunningCode(SimpleNamespace(read=lambda: OWN)))
    seat.process = SimpleNamespace(signal=signals.append, secret=SHOWN)
    messages = WorkerMessages(seat, None, None, None, SimpleNamespace(feed=fed.append))
    messages.greet(4, WorkerHello(pid=1, token=shown, code=code))
    return fed, signals


def test_worker_of_our_code_is_greeted():
    assert greet() == ([Greeted(epoch=4)], [])


def test_worker_of_other_code_is_refused_before_it_loads_anything_and_ended():
    for code in ("other", ""):
        (refused,), signals = greet(code=code)
        assert isinstance(refused, StartRefused) and refused.epoch == 4
        assert refused.fault.code == "restart_needed"
        assert signals == [signal.SIGKILL]


def test_hello_without_the_secret_says_nothing_about_code():
    assert greet(code="other", shown="x") == ([], [])
