"""Keys for others: made once, kept as digests, looked up again when their file changed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.callers import OWNER, Caller, Turnstile
from hotseat.gateway.keys import (
    KEYS_FILE,
    OWNER_FILE,
    KeyRing,
    add_key,
    owner_key,
    read_keys,
    revoke_key,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import is_session_name
from hotseat.protocol.views import ModelView

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
SESSIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+\- ]{0,40}", fullmatch=True)


def test_key_is_known_until_it_is_revoked(tmp_path):
    ring = KeyRing(tmp_path, owner_key(tmp_path))
    assert ring.find("anything") is None
    bob = Caller(name="bob", models=("gemma",), priority=-2, may_swap=False, max_waiting=3)
    key = add_key(tmp_path, bob)
    carol = add_key(tmp_path, Caller(name="carol"))
    assert ring.find(key) == bob
    assert ring.find(carol) == Caller(name="carol")
    revoke_key(tmp_path, "bob")
    assert ring.find(key) is None
    assert ring.find(carol) == Caller(name="carol")
    assert ring.find(owner_key(tmp_path)) == OWNER


def test_file_has_digests_for_its_owner_only(tmp_path):
    key = add_key(tmp_path, Caller(name="bob"))
    file = tmp_path / KEYS_FILE
    assert key not in file.read_text() and key.removeprefix("hs-") not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "http.key").exists() is False
    owner_key(tmp_path)
    assert (tmp_path / "http.key").stat().st_mode & 0o777 == 0o600


def test_open_loopback_takes_strangers_for_the_owner_but_knows_keys(tmp_path):
    ring = KeyRing(tmp_path, owner_key(tmp_path), is_open=True)
    key = add_key(tmp_path, Caller(name="bob"))
    assert ring.find("") == OWNER
    assert ring.find(key) == Caller(name="bob")


def test_damaged_file_lets_nobody_in(tmp_path):
    key = add_key(tmp_path, Caller(name="bob"))
    ring = KeyRing(tmp_path, owner_key(tmp_path))
    (tmp_path / KEYS_FILE).write_text("{")
    assert ring.find(key) is None
    assert ring.find(owner_key(tmp_path)) == OWNER
    with pytest.raises(HotseatError, match="make the keys anew"):
        read_keys(tmp_path)


@pytest.mark.parametrize("held", [b"", b" \n", b"\xff"])
def test_file_without_a_key_lets_nobody_in(tmp_path, held):
    (tmp_path / OWNER_FILE).write_bytes(held)
    with pytest.raises(HotseatError, match=r"http\.key holds no key; remove it"):
        owner_key(tmp_path)


@pytest.mark.parametrize(
    ("caller", "text"),
    [
        (Caller(name="Bob"), "small letters"),
        (Caller(name=""), "small letters"),
        (Caller(name="a:b"), "small letters"),
        (Caller(name="x" * 33), "up to 32"),
        (Caller(name="bob", priority=11), "-10 to 10"),
    ],
)
def test_key_that_cannot_be_is_refused(tmp_path, caller, text):
    with pytest.raises(HotseatError, match=text):
        add_key(tmp_path, caller)
    assert read_keys(tmp_path) == ()


def test_keys_made_at_once_are_all_there(tmp_path):
    names = [f"key-{number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda name: add_key(tmp_path, Caller(name=name)), names))
    assert {entry.caller.name for entry in read_keys(tmp_path)} == set(names)
    ring = KeyRing(tmp_path, "")
    assert [ring.find(key).name for key in made] == names


def test_name_that_is_there_or_is_not_is_said(tmp_path):
    add_key(tmp_path, Caller(name="bob"))
    with pytest.raises(HotseatError, match="revoke bob"):
        add_key(tmp_path, Caller(name="bob"))
    with pytest.raises(HotseatError, match="no key 'eve'; there is bob"):
        revoke_key(tmp_path, "eve")


@given(NAMES, NAMES, SESSIONS, SESSIONS)
def test_sessions_of_two_keys_are_never_one(one, other, session, another):
    mine, theirs = Caller(name=one), Caller(name=other)
    kept = mine.session(session)
    assert is_session_name(kept)
    assert mine.own_name(kept) == session
    assert OWNER.own_name(kept) == kept
    if one != other:
        assert kept != theirs.session(another)
        assert theirs.own_name(kept) is None


def test_models_of_others_do_not_exist():
    views = [ModelView(name=name, state="ready", path="/a/b") for name in ("gemma", "qwen")]
    bob = Caller(name="bob", models=("gemma",))
    assert [(view.name, view.path) for view in bob.visible(views)] == [("gemma", "")]
    assert bob.may_use("gemma") and not bob.may_use("qwen")
    assert OWNER.visible(views) == views


def test_key_decides_priority_and_swaps():
    assert OWNER.options() == {}
    assert Caller(name="bob", priority=0, may_swap=False).options() == {
        "priority": 0,
        "swap": "wait",
    }


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 3))
def test_no_more_wait_than_the_key_allows(steps, most):
    bob, turnstile, waiting = Caller(name="bob", max_waiting=most), Turnstile(), 0
    for enters in steps:
        if enters and waiting == most:
            with pytest.raises(HotseatError) as refused:
                turnstile.enter(bob)
            assert refused.value.code == "queue_full"
        elif enters:
            turnstile.enter(bob)
            waiting += 1
        elif waiting:
            turnstile.leave(bob)
            waiting -= 1
        turnstile.enter(OWNER)
