"""What an installed version makes cold is told by model, with tokens and seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.live_daemon import put_record
from tests.support.models.records import model_record, turn_commit

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon import upgrade_check
from hotseat.supervisor.daemon.kept_figures import COSTS_KEY
from hotseat.supervisor.daemon.upgrade_check import (
    StoredSession,
    UpgradeView,
    Versions,
    check_upgrade,
    cold_models,
    installed_versions,
    note_versions,
)
from hotseat.supervisor.dispatch.rules.cold_contexts import RECENT_S
from hotseat.supervisor.scheduling.learned_costs import Costs, ModelCosts, encode_costs

COSTS = Costs(models={"a": ModelCosts(prefill_tokens_per_s=100.0)})


NOW = 1e9


def session(model, tag, tokens=500, pinned=False, used_at=NOW):
    return StoredSession(model=model, tag=tag, tokens=tokens, pinned=pinned, used_at=used_at)


def test_sessions_of_another_tag_are_cold_with_what_they_cost():
    rows = [session("a", "old", 700, pinned=True), session("a", "old", 300), session("a", "new")]
    (cold,) = cold_models(rows, {"a": "new"}, COSTS, NOW)
    assert (cold.sessions, cold.pinned, cold.tokens, cold.seconds) == (2, 1, 1000, 10.0)


def test_model_that_is_gone_or_was_never_measured_says_so():
    rows = [session("b", "x"), session("c", "old", 900)]
    first, second = cold_models(rows, {"c": "new"}, COSTS, NOW)
    assert (first.model, first.seconds, first.is_registered) == ("c", None, True)
    assert (second.model, second.is_registered) == ("b", False)


def test_pinned_and_recent_ones_of_a_block_and_more_are_computed_ahead():
    rows = [
        session("a", "old"),
        session("a", "old", 255),
        session("a", "old", used_at=NOW - RECENT_S - 1),
        session("a", "old", pinned=True, used_at=0.0),
        session("gone", "old"),
    ]
    cold = {row.model: row.ahead for row in cold_models(rows, {"a": "new"}, COSTS, NOW)}
    assert cold == {"a": 2, "gone": 0}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.integers(1, 9999)))
)
def test_every_session_is_either_warm_or_counted_once(rows):
    tags = {"a": "x", "b": "y"}
    cold = cold_models([session(*row) for row in rows], tags, COSTS, NOW)
    warm = [row for row in rows if tags.get(row[0]) == row[1]]
    assert sum(row.sessions for row in cold) == len(rows) - len(warm)
    assert sum(row.tokens for row in cold) == sum(r[2] for r in rows) - sum(r[2] for r in warm)


def test_changes_name_both_versions_and_nothing_unknown():
    view = UpgradeView(
        running=Versions(hotseat="1", kv="layout=1", mlx=""),
        installed=Versions(hotseat="2", kv="layout=1", mlx="0.33"),
    )
    assert view.changed == ("hotseat: 1 -> 2",)


@pytest.fixture
async def home(tmp_path, monkeypatch):
    """A daemon's home with one session of model "m", as a run before left it."""
    root = tmp_path / "h"
    root.mkdir(mode=0o700)
    monkeypatch.setenv("HOTSEAT_HOME", str(root))
    catalogue = await Catalogue.open(root / "catalogue.sqlite")
    await catalogue.commit_turn(turn_commit(range(300), "s"))
    await catalogue.meta_set(COSTS_KEY, encode_costs(Costs(models={"m": COSTS.of("a")})))
    await note_versions(catalogue)
    await catalogue.close()
    return root


async def test_contexts_of_the_same_format_stay_warm(home):
    put_record(home, model_record("m"))
    view = check_upgrade()
    assert (view.cold, view.warm_sessions, view.changed) == ((), 1, ())
    assert view.running == installed_versions()


async def test_contexts_of_a_model_with_another_tag_become_cold(home):
    put_record(home, model_record("m", tag="f" * 32))
    (cold,) = check_upgrade().cold
    assert (cold.model, cold.tokens, cold.seconds) == ("m", 300, 3.0)


async def test_new_format_of_kv_is_named(home, monkeypatch):
    put_record(home, model_record("m"))
    monkeypatch.setattr(upgrade_check, "MLX_LM_KV", "mlx-lm-9")
    assert check_upgrade().changed == ("kv: layout=1;mlx-lm-0.32 -> layout=1;mlx-lm-9",)


async def test_home_without_a_catalogue_has_nothing_to_lose(home):
    for path in home.glob("catalogue.sqlite*"):
        path.unlink()
    view = check_upgrade()
    assert (view.cold, view.warm_sessions, view.running) == ((), 0, Versions())


async def test_catalogue_that_cannot_be_read_is_told_with_the_way_out(home):
    (home / "catalogue.sqlite").write_bytes(b"no database, and long enough to be looked at" * 99)
    with pytest.raises(HotseatError) as caught:
        check_upgrade()
    assert caught.value.code == "version_mismatch" and "hotseat restart" in caught.value.message
