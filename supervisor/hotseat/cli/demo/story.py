"""The demonstration's story and what it promises. Knows no terminal and no processes."""

import itertools
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from hotseat.client import Client
from hotseat.protocol.replies import Done, Progress, SwapReport

CHAT: Final = "smollm2-135m"
BASE: Final = "gemma3-270m"
REPLY_TOKENS: Final = 20


class Agent(Struct, frozen=True, kw_only=True):
    """Who talks: a session on a model, with what it says turn by turn."""

    name: str
    model: str
    lines: tuple[str, ...]
    raw: bool = False
    """True: the model has no chat template, the text is continued."""


AGENTS: Final = (
    Agent(
        name="planner",
        model=CHAT,
        lines=(
            "Name three things to pack for a day at the sea.",
            "Which of them is the most important?",
            "Why?",
            "Say it in five words.",
        ),
    ),
    Agent(
        name="critic",
        model=CHAT,
        lines=(
            "What makes a good title for a short story?",
            "Give me one about a lighthouse.",
            "Make it shorter.",
            "Is it better now?",
        ),
    ),
    Agent(
        name="writer",
        model=BASE,
        raw=True,
        lines=(
            "The lighthouse had been dark for years when, one evening in October,",
            " Nobody in the village spoke of it, because",
            " In the end",
        ),
    ),
)


class TurnResult(Struct, frozen=True, kw_only=True):
    """One turn of the story. `held` is how many tokens of the session had KV before it."""

    agent: str
    model: str
    number: int
    held: int
    done: Done
    after_restart: bool = False

    @property
    def new_tokens(self) -> int:
        """Prompt tokens that no earlier turn has left KV of."""
        return self.done.usage.prompt_tokens - self.held

    @property
    def is_return(self) -> bool:
        """True when the session existed before."""
        return self.held > 0

    @property
    def first_token_s(self) -> float:
        """Time to the first token without the wait for seat and queue."""
        timing = self.done.timing
        return max(0.0, timing.ttft_s - timing.swap_s - timing.queue_s)


class ColdPrefill(Struct, frozen=True, kw_only=True):
    """What it costs to compute a context of that length from nothing."""

    model: str
    tokens: int
    ttft_s: float


class Story:
    """Plays the turns over a client; keeps results for the report."""

    def __init__(self, agents: tuple[Agent, ...]) -> None:
        self.agents = agents
        self.turns: list[TurnResult] = []
        self.swaps: list[SwapReport] = []
        self.cold: list[ColdPrefill] = []
        self._held: dict[str, int] = {}
        self._lines = {agent.name: itertools.count() for agent in agents}

    def turn(
        self,
        client: Client,
        agent: Agent,
        on_event: Callable[[Progress | str], None],
        *,
        after_restart: bool = False,
    ) -> TurnResult:
        """The agent's next line, and the model's answer streamed to `on_event`."""
        number = next(self._lines[agent.name])
        line = agent.lines[number]
        append = line if agent.raw else [{"role": "user", "content": line}]
        on_event(line)
        with client.generate(
            agent.model,
            session=agent.name,
            append=append,
            max_tokens=REPLY_TOKENS,
            temperature=0.0,
        ) as stream:
            for event in stream.events():
                if isinstance(event, Progress):
                    on_event(event)
            done = stream.result()
        result = TurnResult(
            agent=agent.name,
            model=agent.model,
            number=number + 1,
            held=self._held.get(agent.name, 0),
            done=done,
            after_restart=after_restart,
        )
        # Not prompt + completion: an end-of-turn token is held too, but is no output. The last
        # token of a full answer is held without KV: the next turn computes it.
        unfed = int(done.usage.completion_tokens == REPLY_TOKENS)
        self._held[agent.name] = client.session(agent.model, agent.name).tokens - unfed
        self.turns.append(result)
        return result

    def measure_cold(self, client: Client, agent: Agent) -> ColdPrefill:
        """Computes as many tokens as the agent's session holds, none of which are stored."""
        last = next(turn for turn in reversed(self.turns) if turn.agent == agent.name)
        count = self._held[agent.name]
        ids = tuple(itertools.islice(itertools.cycle(reversed(last.done.tokens)), count))
        done = client.generate(agent.model, tokens=ids, max_tokens=1, persist=False).result()
        cold = ColdPrefill(model=agent.model, tokens=count, ttft_s=done.timing.ttft_s)
        self.cold.append(cold)
        return cold

    def broken_promises(self) -> list[str]:
        """What was promised and did not happen; empty is success."""
        broken = []
        for turn in self.turns:
            usage, who = turn.done.usage, f"{turn.agent} turn {turn.number}"
            if turn.is_return and usage.restored_tokens != turn.held:
                broken.append(f"{who}: {usage.restored_tokens} of {turn.held} tokens restored")
            if turn.is_return and usage.computed_tokens != turn.new_tokens:
                broken.append(
                    f"{who}: {usage.computed_tokens} tokens computed, {turn.new_tokens} were new"
                )
            if usage.completion_tokens == 0:
                broken.append(f"{who}: no output")
        broken += [
            f"swap {swap.from_} to {swap.to}: no context was checkpointed"
            for swap in self.swaps
            if swap.from_ is not None and swap.sessions_checkpointed == 0
        ]
        for cold in self.cold:
            resumed = [t for t in self.turns if t.model == cold.model and t.is_return]
            slowest = max((turn.first_token_s for turn in resumed), default=0.0)
            if slowest >= cold.ttft_s:
                broken.append(
                    f"{cold.model}: a resumed turn took {slowest:.1f} s to its first token, "
                    f"a cold prefill {cold.ttft_s:.1f} s"
                )
        return broken
