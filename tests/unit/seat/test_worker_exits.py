"""How the end of a worker is named: nobody is blamed for what somebody else did."""

import signal

import pytest

from hotseat.protocol.exits import EX_WEIGHTS, PERMANENT
from hotseat.supervisor.seat.rules.worker_exits import describe_exit

LINES = [f"line {number}" for number in range(9)]


def test_kill_that_we_did_not_send_is_named_as_somebody_elses():
    fault = describe_exit(-signal.SIGKILL, (), (), epoch=3)
    assert "hotseat did not send" in fault.message
    assert fault.facts["signal"] == "SIGKILL"
    assert fault.facts["epoch"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_that_we_sent_is_named_as_ours(number):
    fault = describe_exit(-number, (signal.SIGTERM, number), (), epoch=1)
    assert fault.message == f"worker ended by our {number.name}"


def test_crash_is_named_by_its_signal():
    fault = describe_exit(-signal.SIGSEGV, (signal.SIGTERM,), LINES, epoch=1)
    assert fault.message == "worker crashed (SIGSEGV)"
    assert not fault.permanent


def test_last_words_are_quoted_bounded():
    fault = describe_exit(1, (), LINES, epoch=1)
    assert fault.facts["stderr"] == LINES[-5:]
    assert LINES[-1] in fault.message


def test_exit_as_asked_is_not_decorated_with_old_stderr():
    assert LINES[-1] not in describe_exit(0, (), LINES, epoch=1).message


@pytest.mark.parametrize("code", [0, 1, 99, *sorted(PERMANENT)])
def test_only_permanent_exit_codes_are_permanent(code):
    assert describe_exit(code, (), (), epoch=1).permanent == (code in PERMANENT)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ([*LINES, "worker: /m/w ended before byte 9"], "/m/w ended"),
        ([], "no reason was given"),
    ],
)
def test_worker_that_lost_its_weights_is_no_defect_and_says_the_way_out(stderr, said):
    fault = describe_exit(EX_WEIGHTS, (), stderr, epoch=1, model="big")
    assert fault.code == "model_unavailable"
    assert fault.message.startswith(f"weights of big cannot be read: {said}")
    assert fault.message.endswith("put the file back as it was, or import the model again")
    assert (fault.by_disk, fault.permanent) == (True, False)


def test_signal_without_a_name_is_given_by_number():
    assert "signal 250" in describe_exit(-250, (), (), epoch=1).message
