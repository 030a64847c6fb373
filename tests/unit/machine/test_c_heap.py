"""Large blocks that were freed are the system's again, whatever lives behind them."""

import os
import subprocess
import sys

import pytest

from hotseat.protocol.limits import MIB
from hotseat.supervisor.machine import c_heap

STORY = """
import psutil
from hotseat.supervisor.machine import c_heap
{call}
size = 8 << 20
def fill(count):
    return [b"x" * size for _ in range(count)]
fill(4)
before = psutil.Process().memory_info().rss
blocks = fill(8)
last = bytes(100_000) + bytes(blocks.pop()[:100_000])
kept = fill(1)
blocks.clear()
print(psutil.Process().memory_info().rss - before - size)
"""


def growth(call):
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    done = subprocess.run(
        [sys.executable, "-c", STORY.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return int(done.stdout)


@pytest.mark.needs_linux("glibc's heap")
def test_freed_large_blocks_go_back_to_the_system():
    assert growth("assert c_heap.return_large_blocks()") < 2 * MIB
    assert growth("") > 16 * MIB, "without it they stay: the test can fail"


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(c_heap.sys, "platform", "darwin")
    assert c_heap.return_large_blocks() is False
