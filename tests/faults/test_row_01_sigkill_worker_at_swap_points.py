"""Promise: a worker that is killed at any point of a swap loses nothing that was acknowledged.

No client hangs, every request ends once with the tokens of a run without a fault, the swap is done
or undone and says which.
"""

import time

import pytest

LIMIT_S = {"stub": 20.0, "real": 60.0}
"""Of one story, in which nobody hangs. Without a fault it takes about a second; a real worker is
started five times, each for some 2.5 CPU-seconds, on cores that others use as well.
"""


def through(row, story, point, runs):
    worst = 0.0
    for _ in range(runs):
        began = time.monotonic()
        story.run(point)
        worst = max(worst, time.monotonic() - began)
    worker = story.home.worker
    row.record(worker, worst, LIMIT_S[worker], "s", runs=runs, what=f"story, {point},")


@pytest.mark.timeout(7200)
def test_stub_killed_at_a_swap_point_loses_nothing(row, stub_story, worker_point):
    through(row, stub_story, worker_point, row.runs(push=13, slice=1, release=998))


@pytest.mark.timeout(7200)
def test_real_worker_killed_at_a_swap_point_loses_nothing(row, real_story, real_worker_point):
    through(row, real_story, real_worker_point, row.runs(push=2, slice=1, release=1000))
