"""Draws docs/pictures/swap.svg: what a terminal shows of a real swap. Must not make anything up.

A real daemon, real workers with tiny random models, the real command line; each line of the picture
is what a command printed in this run.
"""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.random_models import tiny_models
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "pictures" / "swap.svg"
STORY = (
    ("run", "planner-model", "Plan the day.", "--session", "planner", "--max-tokens", "12"),
    ("swap", "writer-model"),
    ("run", "planner-model", "And then?", "--session", "planner", "--max-tokens", "12", "--json"),
    ("why",),
)


def main(arguments: Sequence[str]) -> int:
    """Writes the picture; `--out FILE` for another place."""
    target = Path(arguments[1]) if arguments[:1] == ["--out"] else TARGET
    console = Console(record=True, width=100, force_terminal=True, file=io.StringIO())
    daemon = _daemon()
    try:
        for command in STORY:
            shown = " ".join(f'"{part}"' if " " in part else part for part in command)
            console.print(Text.assemble(("$ ", "bold green"), ("hotseat " + shown, "bold")))
            console.print(Text(_said(daemon, command)), soft_wrap=False)
    finally:
        daemon.__exit__()
    target.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(target), title="hotseat: a swap keeps the context")
    print(target)
    return 0


def _daemon():
    made = tiny_models()  # puts the tests' modules in reach
    from daemon_harness import LiveDaemon, wait_for

    daemon = LiveDaemon(standby=True)
    made.register_tiny(daemon.home, "planner-model", "llama", vocab=512)
    made.register_tiny(daemon.home, "writer-model", "qwen3", seed=1)
    daemon.start()
    with daemon.client() as client:
        wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
    return daemon


def _said(daemon, command: Sequence[str]) -> str:
    """What a command printed; its progress lines too, since they are the swap."""
    done = subprocess.run(
        [sys.executable, "-m", "hotseat.cli.main", *command],
        env=os.environ | {"HOTSEAT_HOME": str(daemon.home), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout.rstrip("\n")
