"""A turn is planned once while request and session stay the same, and anew if one changes."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record, turn_commit

from hotseat.protocol.messages import Generate
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import cut_at
from hotseat.supervisor.conversation.history import History, encode_history
from hotseat.supervisor.requests import session_store, turn_planner
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.turn_planner import TurnPlanner
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.settings.values import ModelSettings, SamplingDefaults, Settings

RECORD = model_record()


def turn_of(tokens, **fields):
    return turn_commit(tokens, messages=encode_history(History(raw=True)), **fields)


class Counting(SessionStore):
    """Counts what is loaded."""

    loads = 0

    async def load(self, model, name):
        self.loads += 1
        return await super().load(model, name)


@pytest.fixture
async def sessions(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    store = Counting(catalogue)
    await store.commit(turn_of([1, 2, 3], turn=1))
    yield store
    await catalogue.close()


@pytest.fixture
def planner():
    return SimpleNamespace(settings=Settings())


class Accepting(TurnPlanner):
    async def look(self, work, record):
        """What accepting does with a turn that will start."""
        turn = await self.plan(work, record)
        self.keep(work, turn)
        return turn


@pytest.fixture
def turns(sessions, planner):
    return Accepting(sessions, planner)


def make_work(number=0):
    request = Generate(model="m", session="s", tokens=(4, 5), rerender=True)
    return Works().create(f"k{number}", "r", "c", request)


async def test_turn_that_was_looked_at_is_not_loaded_again(turns, sessions):
    work = make_work()
    looked = await turns.look(work, RECORD)
    assert await turns.plan(work, RECORD) is looked
    assert (sessions.loads, looked.turn) == (1, 2)


async def test_turn_whose_session_went_on_is_planned_anew(turns, sessions):
    work = make_work()
    await turns.look(work, RECORD)
    await sessions.commit(turn_of([1, 2, 3, 9], turn=2))
    assert (await turns.plan(work, RECORD)).turn == 3


async def test_turn_whose_session_was_rewound_or_removed_is_planned_anew(turns, sessions):
    await sessions.commit(turn_of([1, 2, 3, 9], turn=2))
    work = make_work()
    await turns.look(work, RECORD)
    await sessions.change("m", "s", lambda held: cut_at(held, 1))
    assert (await turns.look(work, RECORD)).turn == 2
    await sessions.delete("m", "s", frozenset())
    assert (await turns.plan(work, RECORD)).turn == 1


async def test_turn_of_a_session_that_was_forked_meanwhile_is_planned_anew(turns, sessions):
    work = Works().create(
        "k", "r", "c", Generate(model="m", session="new", tokens=(4,), rerender=True)
    )
    assert (await turns.look(work, RECORD)).begins
    await sessions.fork("m", "s", "new", lambda held: held)
    assert (await turns.plan(work, RECORD)).turn == 2


async def test_turn_takes_the_models_defaults_as_they_are_when_it_starts(turns, planner):
    work = make_work()
    await turns.look(work, RECORD)
    chosen = ModelSettings(sampling=SamplingDefaults(temperature=0.5))
    planner.settings = Settings(models={"m": chosen})
    assert (await turns.plan(work, RECORD)).request.sampling.temperature == 0.5


async def test_few_plans_are_kept_and_the_oldest_go_first(turns, sessions):
    works = [make_work(number) for number in range(turn_planner.KEPT + 1)]
    for work in works:
        await turns.look(work, RECORD)
    loads = sessions.loads
    await turns.plan(works[-1], RECORD)
    assert sessions.loads == loads
    await turns.plan(works[0], RECORD)
    assert sessions.loads == loads + 1


async def test_change_that_was_forgotten_counts_as_one(turns, sessions, monkeypatch):
    monkeypatch.setattr(session_store, "CHANGES_KEPT", 1)
    work = make_work()
    await turns.look(work, RECORD)
    await sessions.commit(turn_of([7], session="other", turn=1))
    await turns.plan(work, RECORD)
    assert sessions.loads == 2


async def test_first_turn_sees_the_date_on_which_it_starts(turns, monkeypatch):
    work = Works().create("k", "r", "c", Generate(model="m", session="new", prompt="x"))
    looked = await turns.look(work, RECORD)
    monkeypatch.setattr(turn_planner, "clock_of", lambda _row: looked.clock + 86_400)
    assert (await turns.plan(work, RECORD)).clock == looked.clock + 86_400


async def test_turn_whose_tail_was_written_meanwhile_is_planned_anew(turns, sessions):
    work = make_work()
    await turns.look(work, RECORD)
    sessions.note_change("m", "s")
    await turns.plan(work, RECORD)
    assert sessions.loads == 2
