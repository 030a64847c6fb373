"""Swaps there and back, and memory after each. Judges nothing."""

import time
from typing import TYPE_CHECKING, Final

from hotseat.cli.selftest.measures.memory import memory_figures
from hotseat.cli.selftest.measures.own_stage import OwnStage, ask, seated
from hotseat.cli.selftest.rules.orders import SwapAround
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import SwapReport
from hotseat.protocol.selftest import Fact, Figure, Measured, figure, sample_text

if TYPE_CHECKING:
    from hotseat.client.aio import SwapMode
    from hotseat.client.sync import Client

_WORDS: Final = 20
_TOKENS: Final = 4


def swap_around(order: SwapAround, own: OwnStage) -> Measured:
    """By processes so often, then once in place, each with a context to save."""
    client, stage = own.client(order.stage), order.stage
    seated(client, stage.model)
    figures: list[Figure] = []
    failures: list[Fact] = []
    for number in range(order.count + 1):
        mode: SwapMode = "process" if number < order.count else "in-process"
        for target in (stage.other, stage.model):
            try:
                figures += _swap(client, target, mode, order.looks_s)
            except HotseatError as error:
                failures.append(Fact(name=f"failure_{len(failures)}", value=error.message))
    count = figure("failed_swaps", len(failures))
    return Measured(figures=(*figures, count), facts=tuple(failures))


def _swap(
    client: "Client", target: str, mode: "SwapMode", looks_s: tuple[float, ...]
) -> list[Figure]:
    view = client.status()
    ask(client, view.model or target, sample_text(_WORDS, 4), _TOKENS)
    before = memory_figures("before", view.worker.pid)
    report = client.swap(target, mode)
    swapped_at = time.monotonic()
    found = [*before, *_phases(report)]
    for look_s in looks_s:
        time.sleep(max(0.0, swapped_at + look_s - time.monotonic()))
        found += memory_figures(f"after_{look_s:g}_s", client.status().worker.pid)
    return found


def _phases(report: SwapReport) -> list[Figure]:
    phases, memory = report.phases, report.memory
    found = [
        figure("drain_s", phases.drain_s),
        figure("checkpoint_s", phases.checkpoint_s),
        figure("stop_s", phases.stop_s),
        figure("reclaim_s", phases.reclaim_s),
        figure("load_s", phases.load_s),
        figure("warm_s", phases.warm_s),
        figure(f"total_{report.mode.replace('-', '_')}_s", report.total_s),
        figure("own_s", report.total_s - phases.drain_s - phases.load_s),
    ]
    if memory.wired_not_back_bytes is not None:
        found.append(figure("wired_not_back_bytes", memory.wired_not_back_bytes))
    return found
