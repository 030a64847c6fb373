"""`hotseat demo`: two real models, one seat, three agents, in a home of its own."""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from hotseat.cli.demo.report import legend, swap_table, turn_table
from hotseat.cli.demo.stage import Stage
from hotseat.cli.demo.story import AGENTS, CHAT, Agent, Story
from hotseat.client import Client
from hotseat.protocol.replies import Event, SwapReport

COPY: Final = f"{CHAT}-copy"
"""Stands in for the second model when Gemma is left out: same weights, a seat of its own."""


def run_demo(*, with_gemma: bool, cache: Path, keep: bool = False, as_json: bool = False) -> int:
    """Fetches, imports, talks, swaps, restarts; 0 when every promise held, 1 otherwise."""
    console = Console(stderr=as_json)
    base = Path(tempfile.mkdtemp(prefix="hsdemo"))
    demo = Demo(base, cache, console, with_gemma=with_gemma)
    try:
        demo.prepare()
        demo.play()
    finally:
        demo.close()
        if keep:
            console.print(f"home kept at {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    return demo.report(as_json=as_json)


class Demo:
    """One run: its own home, a daemon process, the story, the tables."""

    def __init__(self, base: Path, cache: Path, console: Console, *, with_gemma: bool) -> None:
        self._cache = cache
        self._console = console
        self._stage = Stage(base, console)
        self._with_gemma = with_gemma
        agents = AGENTS if with_gemma else tuple(map(_on_the_copy, AGENTS))
        self.story = Story(agents)

    def prepare(self) -> None:
        """Gets the sample models and imports them into the demo's home."""
        sources = self._stage.fetch_samples(self._cache, with_gemma=self._with_gemma)
        if not self._with_gemma:
            # A second registration of the same weights still needs the seat of its own.
            sources.append((COPY, *sources[0][1:]))
        for source in sources:
            self._stage.add_model(*source)
        self._stage.screen.say(f"models ready after {self._stage.passed}")

    def close(self) -> None:
        """Leaves nothing running."""
        self._stage.stop()

    # --- the story ------------------------------------------------------------------------------

    def play(self) -> None:
        """A → B → A → B → A, then the daemon restarts and the agents go on."""
        client = self._stage.start()
        chat = [agent for agent in self.story.agents if agent.model == CHAT]
        other = [agent for agent in self.story.agents if agent.model != CHAT]
        with self._recording(client):
            for agents in (chat, other, chat, other, chat):
                for agent in agents:
                    self._stage.turn(self.story, client, agent)
            self._measure_cold(client, chat[0])
        self._stage.screen.say("daemon stopped and started again")
        self._stage.stop()
        client = self._stage.start()
        with self._recording(client):
            for agent in chat:
                self._stage.turn(self.story, client, agent, after_restart=True)
            for agent in other:
                self._stage.turn(self.story, client, agent, after_restart=True)
                self._measure_cold(client, agent)

    def _measure_cold(self, client: Client, agent: Agent) -> None:
        with self._stage.screen.live(f"cold prefill of {agent.model}, for comparison"):
            cold = self.story.measure_cold(client, agent)
        self._stage.screen.say(
            f"for comparison: {cold.model} computes {cold.tokens} tokens from nothing in "
            f"{cold.ttft_s:.1f} s"
        )

    @contextlib.contextmanager
    def _recording(self, client: Client) -> Iterator[None]:
        """Collects the reports of swaps that happen inside, from the daemon's events."""
        with client.events(topics=("swap.finished",)) as events:
            before = len(self.story.swaps)
            yield
            wanted = self._swaps_expected()
            while len(self.story.swaps) - before < wanted:
                item = next(events)
                if isinstance(item, Event):
                    self.story.swaps.append(msgspec.convert(item.facts, SwapReport))

    def _swaps_expected(self) -> int:
        """One swap for each time the model of the story changed."""
        turns = self.story.turns
        models = [turn.model for turn in turns if turn.after_restart == turns[-1].after_restart]
        return sum(
            1 for place, model in enumerate(models) if place == 0 or model != models[place - 1]
        )

    # --- the end --------------------------------------------------------------------------------

    def report(self, *, as_json: bool) -> int:
        """Prints the tables and what did not hold; the exit code."""
        broken = self.story.broken_promises()
        if as_json:
            sys.stdout.write(_as_json(self.story, broken) + "\n")
        else:
            self._console.print(swap_table(self.story))
            self._console.print(turn_table(self.story))
            self._console.print(legend(self.story), style="dim")
        for line in broken:
            self._console.print(f"[red]promise broken:[/] {line}")
        if not broken:
            self._console.print(
                f"[green]every promise held[/]: {len(self.story.turns)} turns, "
                f"{len(self.story.swaps)} swaps, {self._stage.passed}"
            )
        return 1 if broken else 0


def _on_the_copy(agent: Agent) -> Agent:
    """The same story without a second real model."""
    return agent if agent.model == CHAT else msgspec.structs.replace(agent, model=COPY)


def _as_json(story: Story, broken: list[str]) -> str:
    """One object: swaps, turns, cold prefills and what did not hold."""
    facts = {"swaps": story.swaps, "turns": story.turns, "cold": story.cold, "broken": broken}
    return json.dumps(msgspec.to_builtins(facts))
