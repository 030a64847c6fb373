"""The examples do what they say, against a real daemon with tiny models; Node without packages."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support.daemons.real_home import tiny_daemon

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "examples" / "python"
NODE = ROOT / "examples" / "node"
GOLDEN = ROOT / "tests" / "golden"
MODELS = {
    "a": {"template": "agent", "ends": True},
    "b": {"kind": "qwen3", "seed": 1},
}
DAEMON = partial(tiny_daemon, MODELS)


def start(daemon, *command):
    return subprocess.Popen(
        [str(part) for part in command],
        env=os.environ | {"HOTSEAT_HOME": str(daemon.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    return out, err


def example(daemon, name, *arguments):
    return finish(start(daemon, sys.executable, PYTHON / f"{name}.py", *arguments))[0]


def test_plain_chat_prints_an_answer(daemon):
    assert re.search(r"(stop|length), \d+ tokens", example(daemon, "plain_chat", "b"))


def test_streaming_continues_its_session(daemon):
    assert "turn 1: 0 tokens restored" in example(daemon, "streaming", "b")
    again = example(daemon, "streaming", "b")
    assert int(re.search(r"turn 2: (\d+) tokens restored", again)[1]) > 0


def test_two_agents_keep_their_contexts(daemon):
    lines = example(daemon, "two_agents", "a", "b").splitlines()
    assert len(lines) == 6
    later = [line for line in lines if "turn 1" not in line]
    assert all(int(re.search(r"(\d+) restored", line)[1]) > 0 for line in later)


def test_tools_calls_with_a_town_of_the_schema(daemon):
    assert re.search(r"the model wants weather\((Rome|Lima)\)", example(daemon, "tools", "a"))


def test_three_agents_end_and_go_on_from_what_they_had(daemon):
    lines = example(daemon, "three_agents", "a", "b").splitlines()
    assert {line.partition(":")[0] for line in lines} == {"coder", "tester", "reviewer"}
    later = [line for line in lines if "turn 2" in line]
    assert len(lines) == 6 and len(later) == 3
    assert all(int(re.search(r"(\d+) restored", line)[1]) > 0 for line in later)


def test_cancel_keeps_the_partial_turn(daemon):
    assert re.search(r"cancelled after \d+ tokens, turn 1", example(daemon, "cancel", "b"))


def test_reattach_goes_on_behind_a_restart(daemon):
    running = start(daemon, sys.executable, PYTHON / "reattach.py", "b", "800")
    while "…" not in running.stdout.readline():
        assert running.poll() is None, running.stderr.read()
    daemon.kill()
    daemon.start()
    out, _ = finish(running)
    assert "length: 800 tokens from 2 daemons" in out
    assert "attached later: the same tokens" in out


def test_swap_shows_phases_and_the_report(daemon):
    example(daemon, "swap", "a")
    out = example(daemon, "swap", "b")
    assert "loading" in out
    assert re.search(r"a -> b in \d", out)


def test_events_follow_what_happens(daemon):
    assert len(example(daemon, "events", "3").splitlines()) == 3


def node():
    found = shutil.which("node")
    assert found, (
        "the promise that any language can speak the protocol is proven by node: install it"
    )
    return found


def test_node_reads_every_golden_message(daemon):
    out, _ = finish(start(daemon, node(), NODE / "golden.mjs", GOLDEN))
    for name, decoded in json.loads(out).items():
        words = json.loads((GOLDEN / f"{name}.json").read_text())
        assert decoded == {key: words[key] for key in decoded}, name
    assert len(json.loads(out)) == len(list(GOLDEN.glob("*.bin")))


def test_node_streams_the_same_tokens_as_python(daemon):
    turn = [{"role": "user", "content": "Grüße aus Node"}]
    with daemon.client() as client:
        expected = client.generate("b", messages=turn, max_tokens=64).result()
    out, err = finish(start(daemon, node(), NODE / "chat.mjs", "b", "Grüße aus Node"))
    assert json.loads(err.splitlines()[-1])["tokens"] == list(expected.tokens)
    assert out.rstrip("\n") == expected.text.rstrip("\n")


def test_node_says_what_the_daemon_refused(daemon):
    refused = start(daemon, node(), NODE / "chat.mjs", "nosuch", "x")
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "unknown_model" in err
