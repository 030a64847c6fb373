"""First token of a resumed context of 2,048 tokens over the prefill of the same prompt."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.homes import Talk, ask, daemon_with, ids, wait_quiet
from benchmarks.measure import (
    GIB,
    Arm,
    Verdict,
    conclude,
    console,
    print_arms,
    ratio,
    touch_memory,
)
from benchmarks.peers.versus import comparison_parser, use_blas
from benchmarks.real_models import smollm_pair

TARGET = 20.0
CONTEXT = 2048
MESSAGE = 8
ABOUT = """\
SmolLM2 in float32, prompts of 2,048 ids. Both arms: client, daemon, worker, the model seated.
  cold: ids that were never seen before; all of them are computed.
  resumed: a session holds the first 2,040; another model is seated, then this one again (a worker
    process without any KV), then the turn adds 8 ids. With the swap: the same, asked while the
    other model is seated, standby ready; not judged."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the arms and the verdict."""
    options = comparison_parser("resume", __doc__).parse_args(arguments)
    pair = smollm_pair(options.cache)
    console.print(ABOUT)
    use_blas(options.blas)
    touch_memory(6 * GIB)
    cold, resumed, swapped = Arm("cold prefill"), Arm("resumed"), Arm("resumed, with the swap")
    restored = Arm("  restore of it")
    daemon = daemon_with(pair, standby=True)
    with daemon:
        client = daemon.client()
        client.swap(pair[0].name)
        for number in range(options.n):
            _round(client, daemon, pair, number, (cold, resumed, swapped, restored))
    print_arms("request to first token at the client", [cold, resumed, restored, swapped])
    return conclude(Verdict("cold prefill over resumed", ratio(cold, resumed), TARGET, ">="))


def _round(client, daemon, pair: tuple[Path, Path], number: int, arms: tuple[Arm, ...]) -> None:
    """The cold prompt is at the same time what makes the next session."""
    here, other = pair[0].name, pair[1].name
    cold, resumed, swapped, restored = arms
    session = f"s{number}"
    prompt = ids(CONTEXT, 2 * number)
    turn = ask(client, here, tokens=prompt, session=session, max_tokens=1)
    assert turn.done.usage.computed_tokens == CONTEXT
    cold.samples.append(turn.first_token_s)
    for arm in (resumed, swapped):
        # Cut back to the length at which 8 more make the same length again.
        name = f"{session}-{arm is resumed}"
        base = ids(CONTEXT - MESSAGE - 1, 2 * number)
        talk = Talk(client, here, name)
        talk.turn(base, 1)
        wait_quiet(client, daemon)
        client.swap(other, mode="process")
        wait_quiet(client, daemon)
        if arm is resumed:
            client.swap(here, mode="process")
            wait_quiet(client, daemon)
        turn = talk.turn(ids(MESSAGE, 99), 1)
        assert turn.done.usage.prompt_tokens == CONTEXT
        assert turn.done.usage.computed_tokens <= MESSAGE + 1, turn.done.usage
        arm.samples.append(turn.first_token_s)
        if arm is resumed:
            restored.samples.append(turn.done.timing.restore_s)
