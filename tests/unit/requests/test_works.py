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
