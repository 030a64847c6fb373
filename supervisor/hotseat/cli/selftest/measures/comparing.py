"""Whether equal questions get equal tokens, whatever happened between them. Judges nothing."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from hotseat.cli.selftest.measures.own_stage import (
    Answer,
    OwnStage,
    ask,
    difference,
    said,
    seated,
)
from hotseat.cli.selftest.rules.orders import CompareTokens, LoseGpu
from hotseat.protocol import failpoints
from hotseat.protocol.selftest import Figure, Measured, figure, sample_text

if TYPE_CHECKING:
    from hotseat.client.sync import Client

GPU_POINT: Final = "worker.decodes"
GPU_ERROR: Final = (
    "[METAL] Command buffer execution failed: Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
)
_NTH: Final = 5
_FIRST_WORDS: Final = 12
_FIRST_TOKENS: Final = 8
_NEIGHBOUR_TOKENS: Final = 4096
_SWAPPED: Final = ("live", "swapped", "restarted")


def compare_tokens(order: CompareTokens, own: OwnStage) -> Measured:
    """-1 stands for no difference, else it is the first position that differs."""
    client, stage = own.client(order.stage), order.stage
    seated(client, stage.model)
    text = sample_text(order.words, 5)

    def answer() -> Answer:
        return ask(client, stage.model, text, order.new_tokens)

    whole = answer()
    figures = [
        figure("compared_tokens", len(whole.tokens)),
        figure("again_differs_at", difference(answer().tokens, whole.tokens)),
    ]
    for count in order.neighbours:
        with _neighbours(client, stage.model, count):
            beside = difference(answer().tokens, whole.tokens)
        figures.append(figure(f"beside_{count}_unequal_at", beside))
    figures += _after_swaps(client, own, order)
    client = own.client(stage)
    figures.append(figure("alone_differs_at", difference(answer().tokens, whole.tokens)))
    for chunk in order.chunks_tokens:
        settings = f"[models.{stage.model}]\nprefill_chunk = {chunk}\n"
        client = own.client(stage, settings)
        # Other words in front: nothing that was stored is of use.
        found = [ask(client, stage.model, f"{text} {word}", 1).first_s for word in ("and", "so")]
        figures.append(figure(f"chunk_{chunk}_first_token_s", *found))
        figures.append(
            figure(f"chunk_{chunk}_unequal_at", difference(answer().tokens, whole.tokens))
        )
    return Measured(figures=tuple(figures))


def _after_swaps(client: "Client", own: OwnStage, order: CompareTokens) -> list[Figure]:
    """One conversation three times: going on in memory, after a swap, after a restart."""
    model, new_tokens = order.stage.model, order.new_tokens
    first, then = sample_text(order.words, 6), sample_text(_FIRST_WORDS, 7)
    ask(client, model, first, _FIRST_TOKENS, session=_SWAPPED[0])
    for name in _SWAPPED[1:]:
        client.fork_session(model, _SWAPPED[0], name)
    live = ask(client, model, then, new_tokens, session=_SWAPPED[0])
    client.swap(order.stage.other, "in-process")
    client.swap(model, "in-process")
    swapped = ask(client, model, then, new_tokens, session=_SWAPPED[1])
    own.close()
    client = own.client(order.stage)
    seated(client, model)
    restarted = ask(client, model, then, new_tokens, session=_SWAPPED[2])
    for name in _SWAPPED:
        client.delete_session(model, name)
    return [
        figure("restored_from_disk_tokens", swapped.disk_tokens, restarted.disk_tokens),
        figure("swapped_differs_at", difference(swapped.tokens, live.tokens)),
        figure("restarted_differs_at", difference(restarted.tokens, live.tokens)),
    ]


@contextmanager
def _neighbours(client: "Client", model: str, count: int) -> Iterator[None]:
    """So many other requests that decode meanwhile."""
    with ExitStack() as open_streams:
        for number in range(count):
            asked = said(client, model, sample_text(_FIRST_WORDS, 100 + number), {})
            stream = open_streams.enter_context(
                client.generate(model, **asked, max_tokens=_NEIGHBOUR_TOKENS, top_k=1)
            )
            next(stream)
        yield


def lose_gpu(order: LoseGpu, own: OwnStage) -> Measured:
    """The worker is made to raise what MLX raises when a command buffer failed."""
    if GPU_POINT not in failpoints.POINTS:
        return Measured(skipped=f"this version has no point {GPU_POINT} to make the GPU fail at")
    stage, text = order.stage, sample_text(_FIRST_WORDS, 8)
    token = Path(stage.home).parent / "gpu-fails-once"
    token.touch()
    point = msgspec.to_builtins(
        failpoints.Failpoint(at=GPU_POINT, do="raise", nth=_NTH, token=str(token), error=GPU_ERROR)
    )
    client = own.client(stage, variables={failpoints.VARIABLE: json.dumps([point])})
    before = seated(client, stage.model)
    found = ask(client, stage.model, text, order.new_tokens)
    after = seated(client, stage.model)
    whole = ask(client, stage.model, text, order.new_tokens).tokens  # it fails but once
    own.close()
    return Measured(
        figures=(
            figure("finished_share", float(len(found.tokens) == len(whole))),
            figure("replaced_share", float(before != after)),
            figure("after_error_differs_at", difference(found.tokens, whole)),
        )
    )
