"""Generated work for the scheduler's simulator: who asks which model, when, after what.

A load is a graph of turns: a turn becomes a request `gap_s` after the last of the turns it follows
has ended. Everything is drawn from one seeded generator before the simulation starts, so all
policies get exactly the same work. Nothing here knows a policy.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SWAP_S = {"plan": 9.0, "explore": 4.0, "code": 14.0, "review": 7.0, "test": 3.0}
"""Seconds to seat each model: 3 s for a small one, 15 s at most for one that fills a 24 GB Mac."""
MODELS_3 = ("plan", "explore", "code")
MODELS_5 = ("plan", "explore", "code", "review", "test")
SHORTEST_S, LONGEST_S = 5.0, 60.0
"""A turn alone on the machine: a few hundred tokens at 20 to 60 tokens a second."""


@dataclass(frozen=True)
class Turn:
    """One request. `length_s`: seconds it takes when nothing runs beside it."""

    number: int
    who: str
    model: str
    length_s: float
    gap_s: float
    after: tuple[int, ...] = ()
    runs_tool: bool = False


@dataclass
class Load:
    """Turns with a name and one sentence that says what they stand for."""

    name: str
    about: str
    models: tuple[str, ...]
    turns: list[Turn] = field(default_factory=list)

    def add(
        self,
        draw: random.Random,
        who: str,
        model: str,
        after: Sequence[int] = (),
        *,
        gap_s: float = 0.0,
        runs_tool: bool = False,
    ) -> int:
        """Appends a turn and returns its number; its length is drawn."""
        length_s = min(max(draw.lognormvariate(2.5, 0.6), SHORTEST_S), LONGEST_S)
        number = len(self.turns)
        self.turns.append(Turn(number, who, model, length_s, gap_s, tuple(after), runs_tool))
        return number

    @property
    def forced_swaps(self) -> int:
        """Loads that no policy can save: changes of model along the longest chain, and the first.

        Turns that follow each other cannot share a seating of another model in between.
        """
        changes: list[int] = []
        for turn in self.turns:
            before = (changes[n] + (self.turns[n].model != turn.model) for n in turn.after)
            changes.append(max(before, default=1))
        return max(changes)


def _agent(
    load: Load,
    draw: random.Random,
    who: str,
    model: str,
    turns: int,
    after: Sequence[int],
) -> int:
    """An agent of `turns` turns with a tool between them (reading, searching: 0.2 to 8 s)."""
    last = list(after)
    for turn in range(turns):
        gap_s = 0.1 if turn == 0 else draw.uniform(0.2, 8.0)
        last = [load.add(draw, who, model, last, gap_s=gap_s, runs_tool=turn < turns - 1)]
    return last[0]


def agent_cycles(draw: random.Random, models: tuple[str, ...], teams: int = 16) -> Load:
    """Teams of one agent a model that go round: plan, explore, code (, review, test), again."""
    load = Load(
        f"agent cycles, {len(models)} models",
        f"{teams} teams started over 1 min, each an orchestrator and one agent for every further "
        "model; 4 rounds: orchestrator turn -> explorer, 2-4 turns -> coder, 2-4 turns (-> ...); "
        "0.2-8 s of tool between an agent's turns",
        models,
    )
    for team in range(teams):
        last: list[int] = []
        for lap in range(4):
            start_s = draw.uniform(0.0, 60.0) if lap == 0 else 0.1
            last = [load.add(draw, f"t{team}", "plan", last, gap_s=start_s)]
            for model in models[1:]:
                last = [_agent(load, draw, f"t{team}.{model}", model, draw.randint(2, 4), last)]
    return load


def forked_cycles(draw: random.Random, models: tuple[str, ...]) -> Load:
    """Fewer teams whose explorers and coders work side by side."""
    load = Load(
        f"forked cycles, {len(models)} models",
        "8 teams started over 1 min, 4 rounds: orchestrator turn -> 3 explorers at once, 2-4 turns "
        "each -> 2 agents at once for each further model; what a team asks at once is adjacent, "
        "which is the best that can happen to first come, first served",
        models,
    )
    for team in range(8):
        last: list[int] = []
        for lap in range(4):
            start_s = draw.uniform(0.0, 60.0) if lap == 0 else 0.1
            last = [load.add(draw, f"t{team}", "plan", last, gap_s=start_s)]
            for model in models[1:]:
                count = 3 if model == "explore" else 2
                last = [
                    _agent(load, draw, f"t{team}.{model}{n}", model, draw.randint(2, 4), last)
                    for n in range(count)
                ]
    return load


def bursts(draw: random.Random, models: tuple[str, ...]) -> Load:
    """Many requests at once, for all models in mixed order, then quiet for a while."""
    load = Load(
        f"bursts, {len(models)} models",
        "8 bursts 4 min apart on average, 8-20 independent requests each within 5 s, model drawn "
        "anew for each; nobody waits for anybody",
        models,
    )
    at_s = 0.0
    for burst in range(8):
        for number in range(draw.randint(8, 20)):
            model = draw.choice(models)
            gap_s = at_s + draw.uniform(0.0, 5.0)
            load.add(draw, f"b{burst}.{number}", model, gap_s=gap_s)
        at_s += draw.expovariate(1.0 / 240.0)
    return load


def tool_gaps(draw: random.Random, models: tuple[str, ...]) -> Load:
    """Few agents, each true to its model, that mostly wait for their own tools."""
    load = Load(
        f"tool gaps, {len(models)} models",
        "one agent a model, 12 turns each, 1-20 s of tool after every turn; the seat is often idle "
        "while everybody's tools run",
        models,
    )
    for model in models:
        last: list[int] = []
        for turn in range(12):
            gap_s = draw.uniform(0.0, 10.0) if turn == 0 else draw.uniform(1.0, 20.0)
            last = [load.add(draw, model, model, last, gap_s=gap_s, runs_tool=turn < 11)]
    return load


def greedy_pairs(draw: random.Random, models: tuple[str, ...]) -> Load:
    """Agents that always have their next turn ready: the hardest case for fairness."""
    load = Load(
        f"greedy pairs, {len(models)} models",
        "two agents a model, 15 turns each, the next turn 0.1 s after the last: one of them always "
        "runs, so whoever serves the loaded model first never gives way",
        models,
    )
    for model in models:
        for agent in range(2):
            last: list[int] = []
            for _ in range(15):
                last = [load.add(draw, f"{model}{agent}", model, last, gap_s=0.1)]
    return load


def lone_agent(draw: random.Random, models: tuple[str, ...]) -> Load:
    """One agent that asks another model every turn and waits for the answer."""
    load = Load(
        f"lone agent, {len(models)} models",
        "one closed loop, 30 turns, every turn on the next model: there is never a second request, "
        "so no policy can save a swap",
        models,
    )
    last: list[int] = []
    for turn in range(30):
        model = models[turn % len(models)]
        last = [load.add(draw, "alone", model, last, gap_s=draw.uniform(0.2, 5.0))]
    return load


LOADS: tuple[Callable[[random.Random, tuple[str, ...]], Load], ...] = (
    agent_cycles,
    forked_cycles,
    bursts,
    tool_gaps,
    greedy_pairs,
    lone_agent,
)
