"""Four clients of the openai package: hotseat's gateway beside mlx_lm.server, one model and two."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import openai

from benchmarks.homes import seat_as_shipped
from benchmarks.measure import (
    GIB,
    Arm,
    Verdict,
    conclude,
    console,
    interval,
    print_arms,
    ratio,
    touch_memory,
)
from benchmarks.peers.agents import question
from benchmarks.peers.neighbours import start_mlx_lm_server
from benchmarks.peers.versus import comparison_parser, use_blas
from benchmarks.smollm import smollm_pair

ONE_TARGET, TWO_TARGET = 1.0, 0.6
AGENTS, TURNS, TOKENS = 4, 3, 32
ABOUT = """\
SmolLM2 in float32 and a copy with other weights. Four clients of the openai package at once, each
a conversation of three turns, greedy: a question of about 90 tokens, 32 tokens of answer, the whole
conversation with every turn. Both servers are asked over HTTP, by turns, unchanged.
  one model: tokens of all answers over the time from the first question to the last answer.
  two models: two clients on each; that time itself."""
Model = Callable[[int], str]


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms of both loads and the verdicts."""
    parser = comparison_parser("http-agents", __doc__)
    options = parser.parse_args(arguments)
    pair = smollm_pair(options.cache)
    console.print(ABOUT)
    use_blas(options.blas)
    touch_memory(4 * GIB)
    with ExitStack() as stack:
        server = start_mlx_lm_server(pair[0])
        stack.callback(server.close)
        web = stack.enter_context(_gateway(stack, pair))
        theirs = openai.OpenAI(base_url=server.url, api_key="none", timeout=600)
        ours = openai.OpenAI(base_url=f"{web.url}/v1", api_key=web.key, timeout=600)
        names = (str, lambda path: path.name)
        verdicts = [
            _one_model(theirs, ours, names, pair, options.n),
            _two_models(theirs, ours, names, pair, options.n),
        ]
    return conclude(*verdicts)


def _gateway(stack: ExitStack, pair: tuple[Path, Path]):
    from tests.support.daemons.gateways import Gateway

    from hotseat.library.importing import import_model

    daemon = seat_as_shipped(pair[0], pair[0].name)
    stack.callback(daemon.__exit__)
    import_model(pair[1], daemon.home, pair[1].name, lambda _phase, _percent: None)
    return Gateway(daemon.home)


def _one_model(theirs, ours, names, pair, n: int) -> Verdict:
    arms = Arm("mlx_lm.server", "tok/s"), Arm("hotseat gateway", "tok/s")
    for number in range(n + 1):
        sides = list(zip(arms, (theirs, ours), names, strict=True))
        for arm, client, name in sides if number % 2 else reversed(sides):
            tokens, took_s = _converse(client, lambda _agent, name=name: name(pair[0]), number)
            if number:
                arm.samples.append(tokens / took_s)
    print_arms(f"{AGENTS} clients, {TURNS} turns, one model", arms)
    _print_interval(arms)
    return Verdict("one model, tokens a second", ratio(arms[1], arms[0]), ONE_TARGET, ">=")


def _two_models(theirs, ours, names, pair, n: int) -> Verdict:
    arms = Arm("mlx_lm.server"), Arm("hotseat gateway")
    for number in range(n):
        sides = list(zip(arms, (theirs, ours), names, strict=True))
        for arm, client, name in sides if number % 2 else reversed(sides):
            _, took_s = _converse(
                client, lambda agent, name=name: name(pair[agent % 2]), 1000 + number
            )
            arm.samples.append(took_s)
    print_arms(f"{AGENTS} clients, {TURNS} turns, two models", arms)
    _print_interval(arms)
    return Verdict("two models, time to the last answer", ratio(arms[1], arms[0]), TWO_TARGET)


def _print_interval(arms: tuple[Arm, Arm]) -> None:
    mean, low, high = interval(arms[1], arms[0])
    console.print(
        f"hotseat over mlx_lm.server: mean of the paired ratios {mean:.3f},"
        f" 95 % interval {low:.3f}-{high:.3f}"
    )


def _converse(client, model: Model, number: int) -> tuple[int, float]:
    """Tokens of all answers, and the time until the last was there."""
    made = [0] * AGENTS

    def talk(agent: int) -> None:
        messages: list[dict[str, str]] = []
        for turn in range(TURNS):
            messages.append({"role": "user", "content": question(number, agent, turn)})
            answer = client.chat.completions.create(
                model=model(agent), messages=messages, max_tokens=TOKENS, temperature=0
            )
            text = answer.choices[0].message.content or ""
            messages.append({"role": "assistant", "content": text})
            made[agent] += answer.usage.completion_tokens

    threads = [threading.Thread(target=talk, args=(agent,)) for agent in range(AGENTS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made), time.monotonic() - started
