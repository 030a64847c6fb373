"""The picture and the page of the experiment say what the raw runs say, and nothing else."""

import re

import pytest
from benchmarks import picture
from benchmarks.measure import MIB
from benchmarks.proof.page import FIRSTS, drawn, page
from benchmarks.proof.results import Beside, Run, Sums, TurnFigures
from benchmarks.proof.tables import rows_of
from benchmarks.raw_lines import read_lines
from lxml import etree


def run(arm, firsts, *, ratio=1.25, outcome="completed", swap_in=0, stored=0):
    """A run with a turn for each of `firsts`."""
    turns = tuple(
        TurnFigures(
            round=0,
            model="m",
            prompt=1,
            restored=0,
            first_s=first,
            rate=1.0,
            swap_in=0,
            major_faults=0,
            tokens=(1,),
        )
        for first in firsts
    )
    return Run(
        arm=arm,
        ratio=ratio,
        number=0,
        size_mb=1,
        rounds=1,
        outcome=outcome,
        limit_bytes=None,
        swap_bytes=0,
        largest_bytes=1,
        turns=turns,
        wall_s=1.0,
        start_s=1.0,
        sums=Sums(swap_in=swap_in),
        peak_bytes=1,
        stored_bytes=stored,
        beside=Beside(),
    )


RUNS = (
    run("kept", (2.0, 4.0, 10.0), swap_in=300 * MIB),
    run("kept-no-swap", (1.0,), outcome="killed <by> the system"),
    run("hotseat", (1.0, 2.0, 3.0), stored=20 * MIB),
    run("hotseat", (1.0,), ratio=None),
)


@pytest.fixture(scope="module")
def tree():
    return etree.fromstring(drawn(RUNS).encode())


def test_every_turn_is_a_dot_and_a_hollow_one_where_the_run_failed(tree):
    dots = tree.findall(".//{*}circle[@class='turn']")
    assert len(dots) == sum(len(one.turns) for one in RUNS)
    assert [dot.findtext("{*}title") for dot in dots if dot.get("fill") == "none"] == ["1.00 s"]


def test_seconds_lie_where_the_scale_says(tree):
    dots = tree.findall(".//{*}circle[@class='turn']")
    places = {dot.findtext("{*}title"): float(dot.get("cx")) for dot in dots}
    left, width = FIRSTS
    assert places["10.00 s"] == left + width
    assert places["2.00 s"] == left + width / 5


def test_medians_completion_and_bytes_are_written_beside_their_marks(tree):
    told = [element.text for element in tree.iter("{*}title", "{*}text")]
    assert {"median 4.00 s", "p95 10.00 s", "median 2.00 s", "0 of 1"} <= set(told)
    assert {"300", "20", "no limit", "limit 1.25 x"} <= set(told)


def test_page_has_the_tables_and_why_runs_failed():
    shown = page(RUNS)
    assert "killed &lt;by&gt; the system" in shown
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", shown)
    assert cells[:6] == ["hotseat", "1.25 x", "1 of 1", "2.00 s", "3.00 s", "3.00 s"]
    assert "prefers-color-scheme: dark" in shown


def test_figure_of_the_readme_is_that_of_the_runs_that_are_kept():
    rows = {row.arm: row for row in rows_of(read_lines(picture.CHAOS_RUNS, Run)) if row.ratio}
    kept, hotseat = (rows[arm].first_s for arm in ("kept", "hotseat"))
    readme = (picture.ROOT / "README.md").read_text()
    assert f"**{kept:.1f} s against {hotseat:.1f}:**" in readme
    assert (rows["kept-no-swap"].completed, rows["kept"].runs) == (0, 10)
    assert rows["hotseat-no-swap"].completed == rows["hotseat-no-swap"].runs == 10


def test_picture_of_the_docs_is_drawn_from_the_runs_that_are_kept():
    """Draw it with `python -m benchmarks.picture --chaos`."""
    assert picture.CHAOS.read_text() == picture.chaos_picture()
