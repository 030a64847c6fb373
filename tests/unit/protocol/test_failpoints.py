"""Named failpoints: nothing without the variable, exactly what it says with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hotseat.protocol import failpoints
from hotseat.protocol.failpoints import (
    POINTS,
    SUPERVISOR_SWAP_POINTS,
    WORKER_SWAP_POINTS,
    Failpoint,
    Failpoints,
)

ROOT = Path(__file__).parents[3]
CODE = "from hotseat.protocol.failpoints import reach; reach('kv.synced'); print('passed')"


def run(points, code=CODE):
    env = {k: v for k, v in os.environ.items() if k != failpoints.VARIABLE}
    env |= {} if points is None else {failpoints.VARIABLE: json.dumps(points)}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


def test_unarmed_process_passes_every_point():
    assert not failpoints.ARMED
    for name in POINTS:
        failpoints.reach(name)
        assert failpoints.torn_bytes(name) is None


def test_killing_point_ends_the_process_as_sigkill_does():
    assert run([{"at": "kv.synced", "do": "kill"}]).returncode == -signal.SIGKILL


def test_exiting_point_ends_the_process_with_its_code():
    assert run([{"at": "kv.synced", "do": "exit", "code": 7}]).returncode == 7


def test_point_of_another_name_is_passed():
    assert run([{"at": "kv.writing", "do": "kill"}]).stdout == "passed\n"


def test_unknown_name_is_refused_at_the_start():
    ended = run([{"at": "kv.sinked", "do": "kill"}])
    assert ended.returncode == 1
    assert "unknown points: kv.sinked" in ended.stderr


def test_raising_point_can_say_what_mlx_says():
    points = Failpoints([Failpoint(at="worker.decodes", do="raise", error="[METAL] lost")])
    with pytest.raises(RuntimeError, match="METAL"):
        points.reach("worker.decodes")


def test_raising_point_raises_the_error_it_names_once():
    points = Failpoints([Failpoint(at="kv.synced", do="raise", error="ENOSPC", nth=2)])
    points.reach("kv.synced")
    with pytest.raises(OSError, match=r"failpoint kv\.synced") as raised:
        points.reach("kv.synced")
    assert raised.value.errno == 28
    points.reach("kv.synced")


def test_point_with_a_token_fails_only_while_the_token_is_there(tmp_path):
    token = tmp_path / "token"
    armed = Failpoint(at="kv.synced", do="raise", token=str(token))
    one, two = Failpoints([armed]), Failpoints([armed])
    one.reach("kv.synced")
    token.touch()
    with pytest.raises(OSError, match="failpoint"):
        one.reach("kv.synced")
    two.reach("kv.synced")


def test_torn_point_says_how_much_of_a_write_gets_through():
    points = Failpoints([Failpoint(at="kv.writing", do="torn", bytes=3)])
    points.reach("kv.writing")
    assert points.torn_bytes("kv.writing") == 3
    assert points.torn_bytes("kv.writing") is None


def test_every_point_is_reached_somewhere_in_the_code():
    sources = [
        path.read_text()
        for folder in ("worker", "supervisor")
        for path in (ROOT / folder).rglob("*.py")
    ]
    for name in POINTS:
        stem = name.rsplit(".", 1)[0] if name.startswith(("worker.", "seat.")) else name
        assert any(f'reach("{name}")' in text or f'reach(f"{stem}.' in text for text in sources), (
            name
        )


def test_both_sides_name_sixteen_points_of_a_swap_or_more():
    assert min(len(WORKER_SWAP_POINTS), len(SUPERVISOR_SWAP_POINTS)) >= 16
