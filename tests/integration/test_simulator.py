"""The scheduler's simulator as a command: one seed, one table; a missed target shows."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def simulate(code, *, hash_seed="0"):
    return subprocess.run(
        [sys.executable, "-c", f"import sys, benchmarks.scheduling.simulator as s; {code}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_targets_hold_and_the_same_seed_gives_the_same_table():
    first = simulate("sys.exit(s.main(['--seeds', '1']))", hash_seed="1")
    again = simulate("sys.exit(s.main(['--seeds', '1']))", hash_seed="2")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "no policy can save any here" in first.stdout
    assert first.stdout == again.stdout


def test_missed_target_ends_with_1_and_says_which():
    result = simulate("s.SWAPS_FEWER = 1000.0; sys.exit(s.main(['--seeds', '1']))")
    assert result.returncode == 1
    assert "MISSED: agent cycles over 3 models" in result.stdout


def test_wait_beyond_the_bound_ends_with_1():
    code = "s.bound_s = lambda models, settings: 1.0; sys.exit(s.main(['--seeds', '1']))"
    result = simulate(code)
    assert result.returncode == 1
    assert "a wait beyond the proven bound" in result.stdout
