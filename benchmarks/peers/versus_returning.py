"""Return to a model that holds a conversation of 700 tokens: process swap over other servers."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import (
    GIB,
    Verdict,
    conclude,
    console,
    paired_ratio,
    print_arms,
    ratio,
    touch_memory,
)
from benchmarks.peers.neighbours import Answer, start_mlx_lm_server, start_mlx_serve
from benchmarks.peers.versus import (
    Hotseat,
    Messages,
    Neighbour,
    Side,
    comparison_parser,
    settle_all,
    use_blas,
)
from benchmarks.real_models import smollm_pair

SERVER_TARGET = 0.7
MLX_SERVE_TARGET = 0.1
TOUCHED_BYTES = 6 * GIB
SENTENCES = 25
ABOUT = """\
Model A holds a conversation that began with about 700 tokens. Each round another model is asked
first (not measured), then A is asked the next question of the conversation, 8 tokens are answered;
greedy; time runs from that question to the first text at the client. Weights are in the page cache.
  mlx_lm.server: its own process, HTTP; loads A again in place; the KV of the conversation stayed
    in its memory all the while.
  hotseat: the worker of the other model ends, a standby that is ready (and idle: some seconds
    after the swap before) loads A; KV comes back from files that were written before A left."""
ABOUT_MLX_SERVE = """\
  mlx-serve 0.3.0: ends its mlx_lm.server and starts one for A, asks it every 2 s if it is up, and
    computes the conversation again: KV went with the old process."""


class Conversation:
    """One side's conversation with A; replies may differ between sides."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.answers: list[Answer] = []
        self._messages: Messages = []

    def go_on(self, model: Path, question: str) -> Answer:
        """Asks the next question."""
        self._messages.append({"role": "user", "content": question})
        answer = self.side.go_on(model, self._messages)
        self._messages.append({"role": "assistant", "content": answer.text})
        self.answers.append(answer)
        return answer


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the arms, the phases of the swap and the verdicts."""
    parser = comparison_parser("versus-returning", __doc__)
    parser.add_argument("--with-mlx-serve", action="store_true", help="install and compare it too")
    options = parser.parse_args(arguments)
    pair = smollm_pair(options.cache)
    console.print(ABOUT)
    if options.with_mlx_serve:
        console.print(ABOUT_MLX_SERVE)
    use_blas(options.blas)
    touch_memory(TOUCHED_BYTES)
    sides: list[Side] = []
    try:
        sides.append(Neighbour(start_mlx_lm_server(pair[0]), "mlx_lm.server: KV in RAM", str))
        ours = Hotseat(pair)
        sides.append(ours)
        if options.with_mlx_serve:
            theirs = start_mlx_serve(options.cache, pair)
            sides.append(Neighbour(theirs, "mlx-serve: process change", lambda path: path.name))
        talks = _measure(sides, ours, pair, options.n)
    finally:
        for side in sides:
            side.close()
    return _report(talks, sides, ours)


def _measure(
    sides: list[Side], ours: Hotseat, pair: tuple[Path, Path], rounds: int
) -> list[Conversation]:
    talks = [Conversation(side) for side in sides]
    for talk in talks:
        settle_all(sides)
        talk.go_on(pair[0], _long_question())
    for number in range(rounds):
        for talk in talks if number % 2 else reversed(talks):
            settle_all(sides)
            talk.side.ask_chat(pair[1], [{"role": "user", "content": f"Hello number {number}"}])
            settle_all(sides)
            answer = talk.go_on(pair[0], f"And what does line {number + 1} say?")
            talk.side.arm.samples.append(answer.first_token_s)
            if talk.side is ours:
                ours.note_parts(answer)
    return talks


def _report(talks: list[Conversation], sides: list[Side], ours: Hotseat) -> int:
    title = "question to first token, back at the model that holds the conversation"
    print_arms(title, [*(side.arm for side in sides), *ours.parts.values()])
    for talk in talks:
        asked = [answer.prompt_tokens for answer in talk.answers[1:]]
        cached = statistics.median(answer.cached_tokens for answer in talk.answers[1:])
        console.print(
            f"{talk.side.arm.name}: prompts of {min(asked)}-{max(asked)} tokens,"
            f" KV was there for {cached:.0f} (median)"
        )
    verdicts = []
    for side, target in zip(
        (sides[0], *sides[2:]), (SERVER_TARGET, MLX_SERVE_TARGET), strict=False
    ):
        name = side.arm.name.partition(":")[0]
        console.print(
            f"over {name}, paired ratios: {paired_ratio(ours.arm, side.arm):.3f} (median)"
        )
        figure = f"return to a held conversation over {name}"
        verdicts.append(Verdict(figure, ratio(ours.arm, side.arm), target))
    return conclude(*verdicts)


def _long_question() -> str:
    lines = [
        f"Line {number}: the {number}th boat left the harbour before the rain began, with"
        f" {number + 7} people on board."
        for number in range(1, SENTENCES)
    ]
    return "Remember these lines.\n" + "\n".join(lines)
