"""Conversations go by age and number; what clients named, pinned or use stays."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.conversations.keeping import DAYS, sessions_to_remove, tidy
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import SessionView

NOW = 1_000.0
KEEP_S = 100.0
MOST = 3


def view(name="http:0a1b2c3d", used_at=NOW, **changes):
    facts = {"turn": 1, "tokens": 1, "durable_tokens": 0, "state": "cold", "bytes_on_disk": 0}
    facts |= {"model": "m", "session": name, "created_at": 0.0, "used_at": used_at}
    return SessionView(**facts | changes)


VIEWS = st.lists(
    st.builds(
        view,
        name=st.sampled_from(["own", "http:mine", "http:0a1b2c3d"]),
        used_at=st.floats(0, NOW),
        pinned=st.booleans(),
        state=st.sampled_from(["cold", "live", "running"]),
    ),
    max_size=8,
)


def test_what_nobody_wanted_kept_goes_after_an_hour():
    names = ["http:0a1b2c3d-brief", "key:anna:http:0a1b2c3d-brief", "http:0a1b2c3d"]
    views = [view(name, used_at=0.0) for name in names]
    assert sessions_to_remove(views, 3600.0, 14 * DAYS) == []
    assert sessions_to_remove(views, 3601.0, 14 * DAYS) == views[:2]


@given(VIEWS)
def test_what_goes_is_ours_and_old_or_one_too_many(views):
    gone = sessions_to_remove(views, NOW, KEEP_S, MOST)
    ours = sorted((v for v in views if v.session == "http:0a1b2c3d"), key=lambda v: -v.used_at)
    for number, one in enumerate(ours):
        is_due = number >= MOST or NOW - one.used_at > KEEP_S
        is_free = not one.pinned and one.state != "running"
        assert any(one is other for other in gone) == (is_due and is_free)
    assert all(one.session == "http:0a1b2c3d" for one in gone)


class Daemon:
    """As much of a client as tidying asks for; one session is always in use."""

    def __init__(self, *names):
        self.held = list(names)

    async def sessions(self):
        return [view(name, used_at=0.0) for name in self.held]

    async def delete_session(self, _model, name):
        if name == "http:00000001":
            raise HotseatError("session_busy", "It has a turn under way.")
        self.held.remove(name)


async def test_session_that_is_in_use_keeps_no_other_from_going():
    daemon = Daemon("http:00000001", "http:00000002", "own")
    await tidy(daemon, 20 * DAYS, 14 * DAYS)
    assert daemon.held == ["http:00000001", "own"]
