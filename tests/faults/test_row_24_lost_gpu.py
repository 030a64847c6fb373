"""Row 24: the GPU fails under a worker in the middle of an answer: the worker ends with its code
for that, the request goes on in the next one with the same tokens, and nobody is blamed.
"""

import json
import time

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import QUIET, expected, stub_daemon
from tests.support.models.tiny_models import register_tiny
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol import failpoints
from hotseat.protocol.exits import EX_GPU

SETTINGS = "[deadlines]\nback_off_s = 0.01\n"
REASON = "command buffer: submissions ignored"
PROMPT = "it was a long way " * 40
TOKENS = 24
POINTS = (
    "token_n",
    *(
        pytest.param(point, marks=pytest.mark.beyond_slice)
        for point in ("start", "lookup", "first_token", "finish")
    ),
)
LIMIT_S = 20.0
"""Of one run; without the fault it takes less than one."""


class FailingDaemon(LiveDaemon):
    """Its worker's GPU fails in the ninth decode step after `token` was made."""

    def environment(self):
        point = {"at": "worker.decodes", "do": "raise", "nth": 9, "error": METAL_ERROR}
        armed = json.dumps([point | {"token": str(self.token)}])
        return super().environment() | {failpoints.VARIABLE: armed}

    @property
    def token(self):
        return self.base / "token"


def lose_gpu(client, events, **asked):
    """Tokens of a request whose worker loses the GPU once, and the seconds it took."""
    began = time.monotonic()
    before = client.status().gpu_errors
    tokens = client.generate(max_tokens=TOKENS, **asked).result().tokens
    took_s = time.monotonic() - began
    (_, event) = events.wait("worker.gpu_lost", since=began)
    view = client.status()
    assert event.facts == {"epoch": view.epoch - 1, "reason": REASON, "since_start": before + 1}
    assert (view.phase, view.gpu_errors) == ("ready", before + 1)
    assert view.quarantined == ()
    return tokens, took_s


def test_real_request_goes_on_in_the_next_worker_with_the_same_tokens(row):
    daemon = FailingDaemon(settings=QUIET + SETTINGS)
    register_tiny(daemon.home, "tiny", "llama")
    asked = {"model": "tiny", "prompt": PROMPT, "seed": 1, "temperature": 1.0}
    with daemon, daemon.client() as client, EventTimes(daemon) as events:
        wanted = client.generate(max_tokens=TOKENS, **asked).result().tokens
        for _ in range(row.runs(push=5, slice=1, release=100)):
            daemon.token.touch()
            tokens, took_s = lose_gpu(client, events, **asked)
            assert not daemon.token.exists(), "the GPU did not fail"
            assert tokens == wanted
            row.record("real", value=took_s, limit=LIMIT_S, unit="s", what="decode")


@pytest.mark.parametrize("point", POINTS)
def test_stub_that_loses_the_gpu_at_any_point_of_a_request_changes_no_token(row, tmp_path, point):
    once = tmp_path / "once"
    dies = {"die_at": point, "token_n": 5, "exit_code": EX_GPU, "stderr": METAL_ERROR}
    faults = {"models": {"a": dies | {"once_file": str(once)}}}
    with (
        stub_daemon("a", settings=SETTINGS, **faults) as daemon,
        daemon.client() as client,
        EventTimes(daemon) as events,
    ):
        for number in range(row.runs(push=10, slice=2, release=200)):
            once.unlink(missing_ok=True)
            prompt = f"{number}: {PROMPT}"
            tokens, took_s = lose_gpu(client, events, model="a", prompt=prompt)
            assert once.exists(), "the fault did not happen"
            assert tokens == expected("a", prompt, TOKENS)
            row.record(value=took_s, limit=LIMIT_S, unit="s", what=point)
            client.release()  # the next run begins without a worker
