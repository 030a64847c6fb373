"""Four agents at once: their tokens a second together, over mlx_lm.server with the same four."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.homes import seat_as_shipped
from benchmarks.measure import (
    GIB,
    Arm,
    Verdict,
    conclude,
    console,
    interval,
    paired_ratio,
    print_arms,
    ratio,
    touch_memory,
)
from benchmarks.peers.neighbours import start_mlx_lm_server
from benchmarks.peers.versus import comparison_parser, use_blas
from benchmarks.real_models import smollm_pair

TARGET = 1.0
AGENTS, TURNS, TOKENS = 4, 3, 32
ABOUT = """\
SmolLM2 in float32. Four agents at once, each a conversation of its own of three turns: a question
of about 90 tokens, 32 tokens of answer, greedy. Tokens of all answers over the time from the first
question to the end of the last answer. Every round has new conversations.
  mlx_lm.server: HTTP, the whole conversation with every turn, its own prompt cache.
  hotseat: its client, a session an agent, the new message with every turn; default settings, after
    a swap to the model: a standby is ready, the weights are in memory that was touched ahead."""
ABOUT_EXACT = """\
The same agents on hotseat alone: as many requests at once as there are, and one at a time."""
Talk = Callable[[str, list[dict[str, str]]], tuple[str, int]]


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms and the verdict."""
    parser = comparison_parser("agents", __doc__)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--exact", action="store_true", help="what [scheduling] exact costs them")
    options = parser.parse_args(arguments)
    model, _ = smollm_pair(options.cache)
    use_blas(options.blas)
    touch_memory(4 * GIB)
    if options.exact:
        return _compare_exact(model, options.n, options.tokens)
    console.print(ABOUT)
    theirs, ours = Arm("mlx_lm.server", "tok/s"), Arm("hotseat", "tok/s")
    daemon = seat_as_shipped(model, "m")
    server = start_mlx_lm_server(model)
    ask_ours = _talk(daemon.client(), options.tokens)

    def ask_theirs(_agent: str, messages: list[dict[str, str]]) -> tuple[str, int]:
        answer = server.ask(str(model), messages, options.tokens)
        return answer.text, answer.completion_tokens

    try:
        for number in range(options.n + 1):
            pairs: list[tuple[Arm, Talk]] = [(theirs, ask_theirs), (ours, ask_ours)]
            for arm, talk in pairs if number % 2 else reversed(pairs):
                rate = _rate(talk, number, turns=TURNS if number else 1)
                if number:
                    arm.samples.append(rate)
    finally:
        server.close()
        daemon.__exit__()
    print_arms(f"{AGENTS} agents, {TURNS} turns of {options.tokens} tokens", [theirs, ours])
    console.print(f"median of the paired ratios: {paired_ratio(ours, theirs):.3f}")
    figure = f"{AGENTS} agents over mlx_lm.server, tokens a second"
    return conclude(Verdict(figure, ratio(ours, theirs), TARGET, ">="))


def _compare_exact(model: Path, n: int, tokens: int) -> int:
    """One request at a time against the default, of the same daemon; nothing has to be met."""
    console.print(ABOUT_EXACT)
    together, exact = Arm("as it is", "tok/s"), Arm("exact = true", "tok/s")
    daemon = seat_as_shipped(model, "m")
    client, config = daemon.client(), daemon.home / "config.toml"
    settings = {together.name: config.read_text()}
    settings[exact.name] = f"{settings[together.name]}\n[scheduling]\nexact = true\n"
    try:
        for number in range(n + 1):
            for arm in (together, exact) if number % 2 else (exact, together):
                config.write_text(settings[arm.name])
                client.reload()
                name = 2 * number + (arm is exact)
                rate = _rate(_talk(client, tokens), name, turns=TURNS if number else 1)
                if number:
                    arm.samples.append(rate)
    finally:
        daemon.__exit__()
    print_arms(f"{AGENTS} agents, {TURNS} turns of {tokens} tokens", [together, exact])
    mean, low, high = interval(exact, together)
    console.print(
        f"exact over as it is: mean of the paired ratios {mean:.3f},"
        f" 95 % interval {low:.3f}-{high:.3f}"
    )
    return 0


def _talk(client: Any, tokens: int) -> Talk:
    def ask(agent: str, messages: list[dict[str, str]]) -> tuple[str, int]:
        done = client.generate(
            "m", session=agent, append=messages[-1:], max_tokens=tokens, temperature=0.0
        ).result()
        return done.text, done.usage.completion_tokens

    return ask


def _rate(talk: Talk, number: int, turns: int) -> float:
    made = [0] * AGENTS

    def converse(agent: int) -> None:
        messages: list[dict[str, str]] = []
        for turn in range(turns):
            messages.append({"role": "user", "content": question(number, agent, turn)})
            text, tokens = talk(f"r{number}-a{agent}", messages)
            messages.append({"role": "assistant", "content": text})
            made[agent] += tokens

    threads = [threading.Thread(target=converse, args=(agent,)) for agent in range(AGENTS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.monotonic() - started)


def question(number: int, agent: int, turn: int) -> str:
    """What an agent says in a turn: about 90 tokens that no other says."""
    lines = [
        f"Note {number}.{agent}.{turn}.{line}: crate {line + agent} has {line * 7 + number} nails."
        for line in range(3)
    ]
    return " ".join([*lines, "Tell a long story about these crates."])
