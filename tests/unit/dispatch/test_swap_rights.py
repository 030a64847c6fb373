"""Whether the seat may be moved for a request."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Generate
from hotseat.supervisor.dispatch.rules.swap_rights import check_swap_allowed


def request(model="a", swap="auto"):
    return Generate(model=model, prompt="x", swap=swap)


@pytest.mark.parametrize(
    ("swap", "seated", "released_s", "code"),
    [
        ("auto", "b", None, None),
        ("auto", "b", 5.0, "seat_released"),
        ("auto", "a", 5.0, None),
        ("wait", "b", 5.0, None),
        ("never", "b", None, "not_seated"),
        ("never", "a", None, None),
    ],
)
def test_seat_moves_only_for_requests_that_may_move_it(swap, seated, released_s, code):
    caught = None
    try:
        check_swap_allowed(request(swap=swap), "a", seated, released_s)
    except HotseatError as error:
        caught = error.code
    assert caught == code
