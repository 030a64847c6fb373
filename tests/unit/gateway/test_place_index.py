"""The memory of places keeps to its bounds and forgets what was not used for longest."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.conversations.index import Place, PlaceIndex

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "get"]), KEYS, st.integers(0, 6)), max_size=40)
MOST = 3
AGE_S = 10.0


@given(STEPS)
def test_index_is_the_last_used_places_that_are_young(steps):
    index = PlaceIndex(most=MOST, age_s=AGE_S)
    known, used_at, now = {}, {}, 0.0
    for number, (what, key, pause) in enumerate(steps):
        now += pause
        if what == "put":
            known[key] = Place(model="m", session="s", turn=number)
            index.put(key, known[key], now)
            used_at.pop(key, None)
        else:
            fresh = key in used_at and now - used_at[key] <= AGE_S
            assert index.get(key, now) == (known[key] if fresh else None)
            used_at.pop(key, None)
            if not fresh:
                continue
        used_at[key] = now
        while len(used_at) > MOST:
            del used_at[next(iter(used_at))]
        assert len(index) <= MOST
