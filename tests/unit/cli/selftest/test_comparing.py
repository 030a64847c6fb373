"""Two runs side by side."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.cli.selftest.rules.comparing import compare
from hotseat.cli.selftest.rules.results import Report, Result
from hotseat.protocol.selftest import Figure


def report(**entries):
    return Report(
        hotseat="1",
        began_at="",
        scale="tiny",
        state="finished",
        heartbeat_at=0.0,
        results=tuple(
            Result(
                name=name,
                measures="",
                expected="",
                verdict=verdict,
                figures=tuple(Figure(name=n, samples=tuple(v)) for n, v in figures.items()),
            )
            for name, (verdict, figures) in entries.items()
        ),
    )


def test_medians_stand_beside_each_other_with_their_ratio():
    first = report(a=("ok", {"x_ms": [3, 1, 2], "y_s": [4]}), b=("slow", {}))
    second = report(a=("slow", {"x_ms": [4]}), c=("ok", {"z": [1]}))
    found = {(pair.entry, pair.figure): pair for pair in compare(first, second)}
    assert list(found) == [("a", "x_ms"), ("a", "y_s"), ("b", ""), ("c", "z")]
    assert (found["a", "x_ms"].first, found["a", "x_ms"].second) == (2, 4)
    assert found["a", "x_ms"].ratio == 2.0
    assert found["a", "x_ms"].verdicts == "ok / slow"
    assert (found["a", "y_s"].second, found["a", "y_s"].ratio) == (None, None)
    assert found["b", ""].verdicts == "slow / none"
    assert found["c", "z"].verdicts == "none / ok"


figures = st.dictionaries(
    st.sampled_from(["x", "y"]), st.lists(st.floats(-1e9, 1e9), max_size=3), max_size=2
)
reports = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.tuples(st.sampled_from(["ok", "wrong"]), figures)
).map(lambda entries: report(**entries))


@given(reports, reports)
def test_each_entry_of_either_is_there_and_turned_around_it_is_the_same(first, second):
    there, back = compare(first, second), compare(second, first)
    assert {p.entry for p in there} == {r.name for r in (*first.results, *second.results)}
    assert {(p.entry, p.figure, p.first, p.second) for p in there} == {
        (p.entry, p.figure, p.second, p.first) for p in back
    }
