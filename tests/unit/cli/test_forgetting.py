"""Which sessions `hotseat forget` means, and what it does with those that cannot go."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.home.forgetting import Chosen, forget_sessions, is_of, sessions_chosen
from hotseat.protocol.disk_views import DiskTagView, DiskView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView, SessionView

NOW = 1_000_000.0
DAY_S = 86_400.0


def view(session="s", **changes):
    facts = {"turn": 1, "tokens": 1, "durable_tokens": 0, "state": "cold", "bytes_on_disk": 5}
    facts |= {"model": "m", "session": session, "created_at": 0.0, "used_at": NOW}
    return SessionView(**facts | changes)


AGENTS = st.sampled_from(["", "claude-cli", "claude-cli/1", "claude", "bob:claude-cli"])


@given(
    st.lists(st.builds(view, agent=AGENTS, used_at=st.floats(0, NOW)), max_size=6),
    st.none() | AGENTS,
    st.none() | st.floats(0, 12),
)
def test_chosen_are_all_that_fit_both(views, agent, days):
    found = sessions_chosen(views, Chosen(agent=agent, older_days=days), NOW)
    for one in views:
        is_theirs = agent is None or one.agent == agent or one.agent.startswith(f"{agent}/")
        is_old = days is None or one.used_at < NOW - days * DAY_S
        assert any(one is other for other in found) == (is_theirs and is_old)


def test_agent_is_known_by_its_product_and_by_nothing_less():
    assert is_of("claude-cli/1", "claude-cli") and not is_of("claude-cli", "claude")


class Daemon:
    """As much of a client as forgetting asks for; session `busy` got a turn in between."""

    def __init__(self, *held):
        self.held = list(held)

    def models(self):
        return [ModelView(name="m", state="ready")]

    def sessions(self, _model):
        return self.held

    def delete_session(self, _model, name):
        if name == "busy":
            raise HotseatError("session_busy", "It has a turn under way.")
        self.held = [one for one in self.held if one.session != name]
        return 7

    def disk(self):
        facts = dict.fromkeys(DiskView.__struct_fields__[:-1], 0)
        tag = DiskTagView(
            tag="t",
            models=("m",),
            usable=True,
            size_bytes=9,
            pinned_bytes=0,
            unreferenced_bytes=3,
            blocks=1,
            tails=0,
            sessions=0,
        )
        return DiskView(**facts, tags=(tag,))


def test_nothing_goes_before_it_is_asked_for():
    daemon = Daemon(view("a"), view("pin", pinned=True))
    found = forget_sessions(daemon, Chosen(), is_asked=False)
    assert not found.done and len(daemon.held) == 2
    assert [one.session for one in found.sessions] == ["a"]
    assert [one.session for one in found.stays] == ["pin"]


def test_what_is_pinned_or_in_use_stays_and_is_named():
    daemon = Daemon(view("a"), view("busy"), view("pin", pinned=True), view("r", state="running"))
    found = forget_sessions(daemon, Chosen(), is_asked=True)
    assert (found.done, found.removed_bytes, found.shared_bytes) == (True, 7, 3)
    assert [one.session for one in daemon.held] == ["busy", "pin", "r"]
    assert sorted(one.session for one in found.stays) == ["busy", "pin", "r"]
