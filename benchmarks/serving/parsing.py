"""Decode rate with reasoning and calls looked for in the output, over output that is all text."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.homes import seat_as_shipped
from benchmarks.measure import Arm, Verdict, base_parser, conclude, console, interval, print_arms

TARGET = 0.98
TOKENS = 1000
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
ABOUT = """\
A tiny model whose template has reasoning and calls, greedy, 1,000 tokens of answer; time runs from
the first token to the last one at the client. In one arm it is given a conversation and a tool, so
that every token goes through the search for marks, in the other one ids, as many as the prompt of
that conversation has. Both run on the same daemon and worker, by turns."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints arms, the mean of the paired ratios with an interval, and the verdict."""
    options = base_parser("parsing", __doc__, n=20).parse_args(arguments)
    console.print(ABOUT)
    from tests.support.models.tiny_models import make_tiny

    plain, searched = Arm("all text", "tok/s"), Arm("reasoning and calls", "tok/s")
    with tempfile.TemporaryDirectory() as folder:
        daemon = seat_as_shipped(make_tiny(Path(folder) / "tiny", "llama", template="qwen"), "m")
        client = daemon.client()
        chat: dict[str, Any] = {
            "messages": [{"role": "user", "content": "What do you see?"}],
            "tools": [TOOL],
        }
        size = client.count("m", **chat).tokens
        ids = {"tokens": tuple(5 + number * 37 % 400 for number in range(size))}
        for number in range(options.n + 1):
            for arm, asked in ((plain, ids), (searched, chat))[:: 1 if number % 2 else -1]:
                rate = _rate(client, asked)
                if number:  # the first of each finds everything cold
                    arm.samples.append(rate)
        daemon.__exit__()
    print_arms(f"tiny llama, prompt of {size} tokens", [plain, searched])
    mean, low, high = interval(searched, plain)
    console.print(f"95 % interval of the mean of the paired ratios {low:.3f}-{high:.3f}")
    figure = "decode rate with reasoning and calls looked for, over without"
    return conclude(Verdict(figure, mean, TARGET, ">="))


def _rate(client: Any, asked: dict[str, Any]) -> float:
    """Tokens a second after the first."""
    stream = client.generate("m", **asked, max_tokens=TOKENS, temperature=0.0)
    done = stream.result()
    assert len(done.tokens) == TOKENS, done.finish_reason
    return (TOKENS - 1) / float(done.timing.decode_s)
