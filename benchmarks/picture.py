"""`python -m benchmarks.picture` draws a real swap in a terminal. Must not make anything up.

A real daemon, the two real models of the demo, the real command line in terminals of tmux (which
has to be installed); each line of the picture is what a command left there in this run.
`--five-phases` plays that demonstration instead and draws its recording and its last lines,
`--chaos` what the raw data of that experiment say.
"""

import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.proof.page import drawn
from benchmarks.proof.results import Run
from benchmarks.raw_lines import RESULTS, read_lines

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "pictures" / "swap.svg"
FIVE_PHASES = TARGET.with_stem("five-phases")
CHAOS, CHAOS_RUNS = TARGET.with_stem("chaos"), RESULTS / "chaos.jsonl"
FOLLOWS_READER = """
svg { background: #fff } text { font: 11px system-ui, sans-serif; fill: #444 }
text.band { fill: #222 } line.swap, line.mark { stroke: #333 }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c } text { fill: #bbb } text.band { fill: #222 }
  line.swap, line.mark { stroke: #ccc }
}
"""
CACHE = Path("~/.cache/hotseat").expanduser()
COLUMNS, LINES = 104, 50
LOOK_S = 0.1
CHAT, BASE = "smollm2-135m", "gemma3-270m"
FIRST = "Name three things to pack for a day at the sea."
STORY = (
    ("run", CHAT, FIRST, "--session", "planner", "--max-tokens", "48"),
    ("run", BASE, "The lighthouse had been dark for years when", "--raw", "--max-tokens", "24"),
    ("ps",),
    ("run", CHAT, "Which one first?", "--session", "planner", "--max-tokens", "32"),
    ("why",),
)


def main(arguments: Sequence[str] = ()) -> int:
    """Writes the picture; `--out FILE` for another place; the other options for other pictures."""
    if arguments[:1] == ["--five-phases"]:
        return _draw_five_phases()
    if arguments[:1] == ["--chaos"]:
        CHAOS.write_text(chaos_picture())
        print(CHAOS)
        return 0
    target = Path(arguments[1]) if arguments[:1] == ["--out"] else TARGET
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    daemon = _daemon()
    try:
        for command in STORY:
            shown = " ".join(f'"{part}"' if " " in part else part for part in command)
            console.print(Text.assemble(("$ ", "bold green"), ("hotseat " + shown, "bold")))
            console.print(Text.from_ansi(_said(daemon, command)), soft_wrap=False)
    finally:
        daemon.__exit__()
    target.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(target), title="hotseat: a swap keeps the context")
    print(target)
    return 0


def chaos_picture() -> str:
    """`chaos.svg`, of the runs that are kept."""
    return _following_reader(drawn(read_lines(CHAOS_RUNS, Run)))


def _following_reader(element: str) -> str:
    """An SVG file that follows the colours of its reader."""
    return element.replace("\n", f"\n<style>{FOLLOWS_READER}</style>\n", 1)


def _draw_five_phases() -> int:
    """`five-phases.svg`, which follows the colours of its reader, and the terminal."""
    from hotseat.cli.recording.file import read_recording
    from hotseat.cli.recording.report_svg import picture

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "five-phases.html"
        command = [sys.executable, "-m", "hotseat.cli.main", "demo", "--five-phases", "--out", page]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        recording = read_recording(page.with_suffix(".jsonl"))
    shown = picture(recording.samples, recording.events)
    FIVE_PHASES.write_text(_following_reader(shown))
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    lines = said[said.index("Phases (") :].rpartition("page, figures")[0].rstrip()
    console.print(Text.from_ansi(f"$ hotseat demo --five-phases\n\n{lines}"))
    terminal = FIVE_PHASES.with_stem("five-phases-terminal")
    console.save_svg(str(terminal), title="hotseat: a large model comes and goes")
    print(FIVE_PHASES, terminal)
    return 0


def _daemon():
    from tests.support.daemons.live_daemon import LiveDaemon, wait_for

    from hotseat.library.importing import import_model
    from hotseat.library.samples import fetch_samples

    daemon = LiveDaemon(standby=True)
    for sample in fetch_samples(CACHE, gemma=True, on_progress=lambda _phase, _percent: None):
        import_model(sample.gguf_path, daemon.home, sample.name, lambda _phase, _percent: None)
    daemon.start()
    with daemon.client() as client:
        wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
    return daemon


def _said(daemon, command: Sequence[str]) -> str:
    """What stays on a terminal of its own when the command has ended, with its colours."""
    home = shlex.quote(f"HOTSEAT_HOME={daemon.home}")
    said = shlex.join([sys.executable, "-m", "hotseat.cli.main", *command])
    socket = f"hotseat-picture-{os.getpid()}"
    size = ("-x", str(COLUMNS), "-y", str(LINES))
    # The pane outlives the command, which waits for the option to be set.
    waiting = f"tmux -L {socket} wait-for begin; exec env {home} {said}"
    _tmux(socket, "new-session", "-d", *size, waiting)
    try:
        _tmux(socket, "set-option", "remain-on-exit", "on")
        _tmux(socket, "wait-for", "-S", "begin")
        while _tmux(socket, "display-message", "-p", "#{pane_dead}").strip() != "1":
            time.sleep(LOOK_S)
        if status := _tmux(socket, "display-message", "-p", "#{pane_dead_status}").strip("0\n"):
            raise RuntimeError(f"{command} ended with {status}")
        shown = _tmux(socket, "capture-pane", "-e", "-p", "-S", "-")
    finally:
        _tmux(socket, "kill-server")
    return shown.partition("Pane is dead")[0].rstrip()


def _tmux(socket: str, *command: str) -> str:
    program = shutil.which("tmux") or "tmux"
    return subprocess.run(
        [program, "-L", socket, "-f", os.devnull, *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
