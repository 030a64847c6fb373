"""Process swap over mlx_lm.server's model change in one process: SmolLM2 in float32 and a copy."""

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
from benchmarks.peers.neighbours import Answer, start_mlx_lm_server
from benchmarks.peers.versus import (
    Hotseat,
    Neighbour,
    Side,
    comparison_parser,
    settle_all,
    use_blas,
)
from benchmarks.real_models import smollm_pair

TARGET = 0.6
TOUCHED_BYTES = 6 * GIB
ABOUT = """\
Each arm is asked for the model that it does not hold, greedy, the same prompt, which no arm has
seen before; time runs from the request to the first text at the client.
  mlx_lm.server: its own process, HTTP; it drops the old model, runs mlx_lm.load (weights and
    tokenizer), computes the prompt.
  hotseat: its client, daemon and worker; the old worker process ends, a standby that is ready
    loads the weights, warms with one token, computes the prompt. Before every swap of either arm
    the standby is ready and idle, which takes some seconds after the swap before."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms, the phases of the swap and the verdict."""
    parser = comparison_parser("versus-server", __doc__)
    parser.add_argument("--chat", action="store_true", help="a chat message instead of short text")
    options = parser.parse_args(arguments)
    pair = smollm_pair(options.cache)
    console.print(ABOUT)
    use_blas(options.blas)
    touch_memory(TOUCHED_BYTES)
    server = Neighbour(start_mlx_lm_server(pair[0]), "mlx_lm.server: model change", str)
    ours = Hotseat(pair)
    try:
        for side in (server, ours):
            _ask(side, pair[0], 98, is_chat=options.chat)
            _ask(side, pair[1], 99, is_chat=options.chat)
        for number in range(options.n):
            model = pair[number % 2]
            for side in (server, ours) if number % 2 else (ours, server):
                settle_all((server, ours))
                answer = _ask(side, model, number, is_chat=options.chat)
                side.arm.samples.append(answer.first_token_s)
                if side is ours:
                    ours.note_parts(answer)
    finally:
        server.close()
        ours.close()
    title = f"request to first token, {answer.prompt_tokens} tokens of prompt"
    print_arms(title, [server.arm, ours.arm, *ours.parts.values()])
    console.print(f"median of the paired ratios: {paired_ratio(ours.arm, server.arm):.3f}")
    figure = "process swap over mlx_lm.server's model change"
    return conclude(Verdict(figure, ratio(ours.arm, server.arm), TARGET))


def _ask(side: Side, model: Path, number: int, *, is_chat: bool) -> Answer:
    if is_chat:
        question = f"Question {number}: in one sentence, why is the sky blue at noon?"
        return side.ask_chat(model, [{"role": "user", "content": question}])
    return side.ask_raw(model, f"In chapter {number} the sky")
