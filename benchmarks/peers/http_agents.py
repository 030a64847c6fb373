"""Four clients of the openai package: hotseat's gateway beside mlx_lm.server, one model and two."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

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
from benchmarks.random_models import random_model
from benchmarks.real_models import smollm_pair

ONE_TARGET, TWO_TARGET = 1.0, 0.6
AGENTS, TURNS, TOKENS = 4, 3, 32
ABOUT = """\
Four clients of the openai package at once, each a conversation of three turns, greedy: a question
of about 90 tokens of SmolLM2, 32 tokens of answer, the whole conversation with every turn. Both
servers are asked over HTTP, by turns, unchanged.
  one model, SmolLM2 in float32: tokens of all answers over the time from the first question to the
    last answer.
  two models, two clients on each; that time itself. Of two random models of 2.1 GB whose token is
    cheap, as on a GPU, where reading the weights is what a change of model costs: this is judged.
    Of SmolLM2 and a copy with other weights, where nearly all time of both arms goes to the same
    products of matrices on the processor: printed beside it."""
SIZE_MB = 2100
Pair = tuple[Path, Path]


class Side(NamedTuple):
    """A server as its clients see it. `name`: what it calls the model of a folder."""

    client: openai.OpenAI
    name: Callable[[Path], str]


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms of both loads and the verdicts."""
    parser = comparison_parser("http-agents", __doc__)
    options = parser.parse_args(arguments)
    pair = smollm_pair(options.cache)
    console.print(ABOUT)
    use_blas(options.blas)
    touch_memory(8 * GIB)
    with _arms(pair) as arms:
        verdicts = [_one_model(arms, pair, options.n)]
        _two_models(arms, pair, "SmolLM2", options.n)
    large = random_model(options.cache, SIZE_MB, 0), random_model(options.cache, SIZE_MB, 1)
    with _arms(large) as arms:
        verdicts.append(_two_models(arms, large, "2.1 GB, a token is cheap", options.n))
    return conclude(*verdicts)


@contextmanager
def _arms(pair: Pair) -> Iterator[list[Side]]:
    """mlx_lm.server and the gateway of a daemon, started for `pair`, in this order."""
    from tests.support.daemons.gateways import Gateway

    from hotseat.library.importing import import_model

    with ExitStack() as stack:
        server = start_mlx_lm_server(pair[0])
        stack.callback(server.close)
        daemon = seat_as_shipped(pair[0], pair[0].name)
        stack.callback(daemon.__exit__)
        import_model(pair[1], daemon.home, pair[1].name, lambda _phase, _percent: None)
        web = stack.enter_context(Gateway(daemon.home))
        yield [
            Side(openai.OpenAI(base_url=server.url, api_key="none", timeout=600), str),
            Side(
                openai.OpenAI(base_url=f"{web.url}/v1", api_key=web.key, timeout=600), _registered
            ),
        ]


def _registered(folder: Path) -> str:
    return folder.name


def _one_model(sides: list[Side], pair: Pair, n: int) -> Verdict:
    arms = Arm("mlx_lm.server", "tok/s"), Arm("hotseat gateway", "tok/s")
    for number in range(n + 1):
        for arm, side in _by_turns(arms, sides, number):
            tokens, took_s = _converse(side, pair[:1], number)
            if number:
                arm.samples.append(tokens / took_s)
    print_arms(f"{AGENTS} clients, {TURNS} turns, one model", arms)
    _print_interval(arms)
    return Verdict("one model, tokens a second", ratio(arms[1], arms[0]), ONE_TARGET, ">=")


def _two_models(sides: list[Side], pair: Pair, kind: str, n: int) -> Verdict:
    arms = Arm("mlx_lm.server"), Arm("hotseat gateway")
    for number in range(n):
        for arm, side in _by_turns(arms, sides, number):
            _, took_s = _converse(side, pair, 1000 + number)
            arm.samples.append(took_s)
    print_arms(f"{AGENTS} clients, {TURNS} turns, two models: {kind}", arms)
    _print_interval(arms)
    return Verdict("two models, time to the last answer", ratio(arms[1], arms[0]), TWO_TARGET)


def _by_turns(arms: tuple[Arm, Arm], sides: list[Side], number: int) -> list[tuple[Arm, Side]]:
    pairs = list(zip(arms, sides, strict=True))
    return pairs if number % 2 else pairs[::-1]


def _print_interval(arms: tuple[Arm, Arm]) -> None:
    mean, low, high = interval(arms[1], arms[0])
    console.print(
        f"hotseat over mlx_lm.server: mean of the paired ratios {mean:.3f},"
        f" 95 % interval {low:.3f}-{high:.3f}"
    )


def _converse(side: Side, models: Sequence[Path], number: int) -> tuple[int, float]:
    """Tokens of all answers, and the time until the last was there."""
    made = [0] * AGENTS

    def talk(agent: int) -> None:
        model = side.name(models[agent % len(models)])
        messages: list[dict[str, str]] = []
        for turn in range(TURNS):
            messages.append({"role": "user", "content": question(number, agent, turn)})
            answer = side.client.chat.completions.create(
                model=model, messages=messages, max_tokens=TOKENS, temperature=0
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
