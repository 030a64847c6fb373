"""The demonstration ends with 1 when a promise was broken, and says which."""

import io
import json

import pytest
from msgspec.structs import replace
from rich.console import Console

from hotseat.cli.demo.run import Demo
from hotseat.cli.demo.story import AGENTS, CHAT, ColdPrefill, TurnResult
from hotseat.protocol.replies import (
    Cause,
    Done,
    SwapMemory,
    SwapPhases,
    SwapReport,
    Timing,
    Usage,
)


def usage(**counts):
    fields = {"prompt_tokens": 60, "restored_tokens": 50, "computed_tokens": 10}
    return Usage(**fields | {"completion_tokens": 20} | counts)


def turn(held=50, ttft_s=1.0, **counts):
    done = Done(
        model=CHAT,
        text="x",
        tokens=(1,),
        finish_reason="length",
        usage=usage(**counts),
        timing=Timing(ttft_s=ttft_s),
        session="planner",
        turn=2,
    )
    return TurnResult(agent="planner", model=CHAT, number=2, held=held, done=done)


SWAP = SwapReport(
    from_="other",
    to=CHAT,
    mode="process",
    cause=Cause(client="demo", request_id="r", model_asked=CHAT),
    phases=SwapPhases(),
    total_s=1.0,
    memory=SwapMemory(available_before=1, available_after=1),
    sessions_checkpointed=1,
    bytes_written=1,
)


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path, tmp_path, Console(file=io.StringIO()), with_gemma=True)
    demo.story.turns.append(turn())
    demo.story.swaps.append(SWAP)
    demo.story.cold.append(ColdPrefill(model=CHAT, tokens=50, ttft_s=5.0))
    yield demo
    demo.close()


def report(demo, capsys):
    code = demo.report(as_json=True)
    return code, json.loads(capsys.readouterr().out)["broken"]


def test_demo_that_kept_every_promise_ends_with_0(demo, capsys):
    assert len(AGENTS) == 3
    assert report(demo, capsys) == (0, [])


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (turn(restored_tokens=49), "restored"),
        (turn(computed_tokens=11), "computed"),
        (turn(completion_tokens=0), "no output"),
        (turn(ttft_s=5.5), "cold prefill"),
    ],
)
def test_demo_with_a_broken_turn_ends_with_1_and_says_why(demo, capsys, broken, word):
    demo.story.turns.append(broken)
    code, lines = report(demo, capsys)
    assert code == 1
    assert len(lines) == 1
    assert word in lines[0]


def test_demo_with_a_swap_that_saved_nothing_ends_with_1(demo, capsys):
    demo.story.swaps.append(replace(SWAP, sessions_checkpointed=0))
    code, (line,) = report(demo, capsys)
    assert code == 1
    assert "checkpointed" in line
