"""The GPU fails under a worker: requests go on with the same tokens, or end with the way out."""

import json

from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import QUIET, error_of, serves, stub_daemon
from tests.support.models.tiny_models import register_tiny
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol import failpoints
from hotseat.protocol.exits import EX_GPU
from hotseat.supervisor.seat.rules.gpu_losses import MAX_IN_A_ROW

REASON = "command buffer: submissions ignored"
QUICK = "[deadlines]\nback_off_s = 0.01\n"
PROMPT = "it was a long way " * 40
DIES = {"exit_code": EX_GPU, "stderr": METAL_ERROR}


class FailingDaemon(LiveDaemon):
    """Its worker's GPU fails in the ninth decode step after `token` was made."""

    def environment(self):
        point = {"at": "worker.decodes", "do": "raise", "nth": 9, "error": METAL_ERROR}
        armed = json.dumps([point | {"token": str(self.token)}])
        return super().environment() | {failpoints.VARIABLE: armed}

    @property
    def token(self):
        return self.base / "token"


def test_request_goes_on_in_the_next_worker_with_the_same_tokens():
    daemon = FailingDaemon(settings=QUIET + QUICK)
    register_tiny(daemon.home, "tiny", "llama")
    with daemon, daemon.client() as client, EventTimes(daemon) as events:
        asked = {"prompt": PROMPT, "max_tokens": 24, "seed": 1, "temperature": 1.0}
        undisturbed = client.generate("tiny", **asked).result()
        daemon.token.touch()
        assert client.generate("tiny", **asked).result().tokens == undisturbed.tokens
        assert not daemon.token.exists(), "the GPU did not fail"
        (_, event) = events.wait("worker.gpu_lost")
        assert event.facts == {"epoch": 1, "reason": REASON, "since_start": 1}
        view = client.status()
        assert (view.epoch, view.phase, view.gpu_errors) == (2, "ready", 1)
        assert view.quarantined == ()


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
