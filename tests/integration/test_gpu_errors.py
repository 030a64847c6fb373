"""The GPU fails again and again: requests end with the way out. Row 24 has the single failure."""

from tests.support.daemons.stub_home import error_of, serves, stub_daemon
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol.exits import EX_GPU
from hotseat.supervisor.seat.rules.gpu_losses import MAX_IN_A_ROW

REASON = "command buffer: submissions ignored"
QUICK = "[deadlines]\nback_off_s = 0.01\n"
DIES = {"exit_code": EX_GPU, "stderr": METAL_ERROR}


def test_request_under_which_the_gpu_fails_alone_again_ends_as_one_that_kills_workers():
    dies = DIES | {"die_at": "first_token"}
    with stub_daemon("ab", settings=QUICK, models={"a": dies}, unwire_s=0.125) as daemon:
        client = daemon.client()
        error = error_of(client.generate("a", prompt="x" * 600).result)
        assert (error.code, error.facts["gpu"]) == ("poison_request", REASON)
        assert client.status().quarantined == ()
        assert client.swap("b").memory.unwire_s == 0.125, "that of an end in order is told"
        assert serves(client, "b")


def test_gpu_that_fails_under_every_worker_is_told_with_the_way_out_and_not_spun_on():
    dies = DIES | {"die_at": "warm"}
    with stub_daemon("ab", settings=QUICK, models={"a": dies, "b": dies}) as daemon:
        client = daemon.client()
        error = error_of(client.generate("a", prompt="x").result)
        assert error.code == "worker_lost"
        assert "restart the Mac" in error.message
        view = client.status()
        assert (view.phase, view.gpu_errors) == ("failed", MAX_IN_A_ROW + 1)
        assert view.quarantined == ()
        again = error_of(client.generate("b", prompt="x").result)
        assert (again.code, again.facts["in_a_row"]) == ("worker_lost", MAX_IN_A_ROW + 1)
        assert again.retry_after_s > 30.0
        assert client.status().gpu_errors == view.gpu_errors, "no worker was started for it"
