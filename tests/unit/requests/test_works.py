"""What the table of requests answers."""

import pytest

from hotseat.protocol.messages import Generate
from hotseat.supervisor.requests.works import Works, WorkState


@pytest.mark.parametrize(
    ("state", "phase", "has_prompt"),
    [
        (WorkState.WAITING, "queued", False),
        (WorkState.STARTING, "starting", True),
        (WorkState.RUNNING, "restoring", True),
        (WorkState.RUNNING, "prefill", True),
        (WorkState.RUNNING, "decode", False),
        (WorkState.ENDED, "prefill", False),
    ],
)
def test_prompt_is_running_until_its_first_token(state, phase, has_prompt):
    works = Works()
    work = works.create("key", "id", "client", Generate(model="a", prompt="x"))
    work.state, work.phase = state, phase
    assert works.has_prompt_running is has_prompt


@pytest.mark.parametrize(
    ("speed", "persist", "is_slow"), [(None, True, False), (0.4, True, True), (0.4, False, False)]
)
def test_request_waits_as_a_slow_one_only_if_it_goes_on_after_a_swap(speed, persist, is_slow):
    work = Works().create("key", "id", "client", Generate(model="a", prompt="x"))
    work.slow_speed, work.persist = speed, persist
    assert work.as_waiting.is_slow is is_slow
