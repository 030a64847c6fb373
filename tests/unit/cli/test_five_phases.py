"""Who works when in the five phases, and what each phase's figures are made of."""

import io

import pytest
from click.testing import CliRunner
from lxml import etree
from rich.console import Console

from hotseat.cli.commands.daemon import demo
from hotseat.cli.demo.five_phases import (
    PHASES,
    TURNS,
    agents_of,
    phase_at,
    phase_figures,
    summaries,
    turn_order,
)
from hotseat.cli.demo.five_phases_page import phase_table, sections, summary_lines
from hotseat.cli.demo.story import Story, TurnResult
from hotseat.cli.recording.file import Recording
from hotseat.cli.recording.report_page import page
from hotseat.cli.recording.report_svg import MARK, picture
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.replies import (
    Cause,
    Done,
    Event,
    SwapMemory,
    SwapPhases,
    SwapReport,
    Timing,
    Usage,
)
from hotseat.protocol.telemetry import Sample

MODELS = {"small": "a", "large": "b"}


def mark(percent, at):
    facts = {"percent": percent, "title": phase_at(percent).title}
    return Event(seq=0, at=at, name=MARK, facts=facts)


def sample(at, **fields):
    told = {"phase": "ready", "model": "a", "total_bytes": 16 * GIB, "free_bytes": 10 * GIB}
    return Sample(at=at, **told | fields)


def turn(number, restored, computed):
    usage = Usage(
        prompt_tokens=restored + computed,
        restored_tokens=restored,
        computed_tokens=computed,
        completion_tokens=20,
    )
    done = Done(
        model="a",
        text="x",
        tokens=(1,),
        finish_reason="length",
        usage=usage,
        timing=Timing(ttft_s=1.0, swap_s=0.5),
        session="planner",
        turn=number,
    )
    return TurnResult(agent="planner <1>", model="a", number=number, held=restored, done=done)


def report(origin, target, total_s):
    return SwapReport(
        from_=origin,
        to=target,
        mode="process",
        cause=Cause(client="demo", request_id="r", model_asked=target),
        phases=SwapPhases(),
        total_s=total_s,
        memory=SwapMemory(available_before=1, available_after=1),
        sessions_checkpointed=1,
        bytes_written=1,
    )


def test_phases_are_those_of_the_notes():
    assert [phase.percent for phase in PHASES] == [5, 25, 50, 70, 90]
    assert [phase_at(percent).role for percent in (5, 20, 25, 50, 65, 70, 95)] == [
        *("small", "small"),
        *("large", "large", "large"),
        *("small", "small"),
    ]
    assert phase_at(0).title == "empty seat"


def test_every_turn_has_a_line_and_the_agents_of_a_model_take_turns():
    order = turn_order()
    assert len(order) == TURNS == 19
    assert [percent for percent, _ in order] == list(range(5, 100, 5))
    assert [name for _, name in order[:4]] == ["planner", "critic"] * 2
    for raw in (frozenset(), frozenset({"b"})):
        agents = agents_of(MODELS, raw)
        for name, agent in agents.items():
            assert [who for _, who in order].count(name) == len(agent.lines)
        assert agents["writer"].raw is bool(raw)
        assert not agents["planner"].raw


@pytest.fixture
def phases():
    samples = [
        sample(1.0, model=None, phase="empty", free_bytes=12 * GIB),
        sample(10.0, weights_bytes=GIB, live_kv_bytes=MIB, os_swapped_out_bytes=MIB),
        sample(11.0, weights_bytes=2 * GIB, runtime_bytes=MIB, offloaded_bytes=3 * MIB),
        sample(20.0, model="b", free_bytes=5 * GIB, os_swapped_in_bytes=2 * MIB),
        sample(21.0, model="b", offloaded_bytes=MIB),
    ]
    turns = [turn(1, 0, 40), turn(2, 30, 5), turn(3, 1, 2), turn(4, 3, 4), turn(5, 0, 9)]
    swaps = [(10.5, report(None, "a", 1.5)), (20.5, report("a", "b", 2.0))]
    return phase_figures([mark(0, 0.5), mark(5, 9.0), mark(25, 20.0)], samples, turns, swaps)


def test_figures_of_a_phase_are_what_lies_between_its_mark_and_the_next(phases):
    empty, small, large = phases
    assert (empty.turns, empty.swap_s, empty.model, empty.peak_worker_bytes) == (0, None, None, 0)
    assert (small.turns, small.restored_tokens, small.computed_tokens) == (4, 34, 51)
    assert small.swap_s == 1.5
    assert small.peak_worker_bytes == 2 * GIB + MIB
    assert (small.os_swapped_out_bytes, small.offloaded_bytes) == (MIB, 3 * MIB)
    assert (small.at, small.seconds) == (9.0, 11.0)
    assert (large.turns, large.computed_tokens, large.model) == (1, 9, "b")
    assert (large.least_free_bytes, large.os_swapped_in_bytes) == (5 * GIB, 2 * MIB)


def test_swaps_are_summed_up_by_direction():
    found = summaries([report(None, "a", 3.0), *(report("a", "b", s) for s in (1.0, 9.0, 2.0))])
    assert [(one.origin, one.swaps, one.median_s, one.max_s) for one in found] == [
        (None, 1, 3.0, 3.0),
        ("a", 3, 2.0, 9.0),
    ]
    assert summary_lines(found)[1] == "a → b: 3 swaps, median 2.00 s, longest 9.00 s"


def test_table_fits_80_columns_whatever_the_numbers(phases):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(phase_table([*phases, *phases]))
    shown = console.export_text()
    assert "…" not in shown
    assert all(phase.title in shown for phase in phases)


def test_page_shows_marks_phases_and_turns_as_text(phases):
    story = Story(())
    story.turns.append(turn(1, 0, 40))
    samples = (sample(1.0), sample(30.0))
    events = (mark(25, 20.0),)
    shown = page(Recording(samples=samples, events=events), sections(phases, story, ()))
    assert "planner &lt;1&gt;" in shown
    assert "25 %" in shown
    tree = etree.fromstring(picture(samples, events).encode())
    assert len(tree.findall(".//{*}line[@class='mark']")) == 1


@pytest.mark.parametrize("models", ["a", "a,", ",b"])
def test_models_are_two_names(models):
    said = CliRunner().invoke(demo, ["--five-phases", "--models", models])
    assert said.exit_code == 2
    assert "SMALL,LARGE" in said.output
