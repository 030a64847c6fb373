"""What a demonstration plays on: a home and a daemon of its own, models, a screen."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hotseat.cli.demo.report import DemoScreen
from hotseat.cli.demo.story import Agent, Story
from hotseat.cli.home.library_process import read_lines
from hotseat.cli.home.own_daemon import OwnDaemon
from hotseat.client import Client
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.process_lines import LibraryLine
from hotseat.protocol.replies import Progress


class Stage:
    """One home below `base`; whoever made it closes it."""

    def __init__(self, base: Path, console: Console, *, within: Sequence[str] = ()) -> None:
        """`within`: what the daemon's command begins with."""
        self.screen = DemoScreen(console)
        self.endpoint = ""
        self._home = base / "home"
        log = base / "daemon.stderr"
        self._daemon = OwnDaemon(self._home, base / "seat.lock", log, within=within)
        self._client: Client | None = None
        self._began_at = time.monotonic()

    @property
    def passed(self) -> str:
        """Since the beginning."""
        return f"{time.monotonic() - self._began_at:.0f} s"

    # --- models ---------------------------------------------------------------------------------

    def fetch_samples(self, cache: Path, *, with_gemma: bool) -> list[tuple[str, str, str]]:
        """Name, file and licence of each sample model, fetched where it was not there."""
        flags = [] if with_gemma else ["--without-gemma"]
        samples = self._library("fetch", "--cache", str(cache), *flags).samples or ()
        for sample in samples:
            self.screen.say(f"model {sample.name}: licence {sample.licence}")
        return [(sample.name, str(sample.gguf_path), sample.licence) for sample in samples]

    def add_model(self, name: str, path: str, licence: str) -> None:
        """Imports or registers what lies at `path` into the home."""
        where = ("--home", str(self._home), "--name", name)
        self._library("import", path, *where, *(("--licence", licence) if licence else ()))

    def make_large(self, folder: Path) -> None:
        """Writes the random model whose weights are to be more than fit."""
        self._library("large", str(folder))

    def settle(self, settings: str) -> None:
        """The home's settings, as `config.toml` has them; a daemon takes them when it reloads."""
        self._home.mkdir(parents=True, exist_ok=True)
        (self._home / "config.toml").write_text(settings)

    def _library(self, *arguments: str) -> LibraryLine:
        """Runs the library process and shows its steps; its last line is the result."""

        def show(phase: str, percent: float) -> None:
            self.screen.phase(Progress(phase=f"{arguments[0]}: {phase}", percent=percent))

        command = [sys.executable, "-m", "hotseat.library", *arguments]
        with (
            self.screen.live(f"{arguments[0]} …"),
            subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None  # noqa: S101 - asked for
            last = read_lines(process.stdout, show)
        if last is not None and last.error is not None:
            raise HotseatError(last.error.code, last.error.message)
        if last is None or process.returncode:
            raise HotseatError("internal", f"the library process ended with {process.returncode}")
        return last

    # --- daemon ---------------------------------------------------------------------------------

    def start(self) -> Client:
        """A real daemon in the home, and a client of it."""
        self.endpoint = self._daemon.start()
        self._client = Client(endpoint=self.endpoint, name="demo")
        return self._client

    def stop(self) -> None:
        """Ends the daemon in order; its contexts are on disk then."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._daemon.stop()

    # --- turns ----------------------------------------------------------------------------------

    def turn(
        self, story: Story, client: Client, agent: Agent, *, after_restart: bool = False
    ) -> None:
        """The agent's next line and what was answered, shown."""

        def on_event(event: Progress | str) -> None:
            if isinstance(event, str):
                self.screen.say(f"[bold]{agent.name}[/] ({agent.model}): {event}")
            else:
                self.screen.phase(event)

        with self.screen.live(f"{agent.name} …"):
            turn = story.turn(client, agent, on_event, after_restart=after_restart)
        text = " ".join(turn.done.text.split())
        usage = turn.done.usage
        self.screen.say(f"   → {text}")
        self.screen.say(
            f"     [dim]{usage.restored_tokens} tokens restored, {usage.computed_tokens} computed"
            f"[/]"
        )
