"""`python -m hotseat.cli.selftest.measures`: orders on stdin, lines of what was measured on stdout.

One order after the other, until stdin ends. Imports late what an order needs.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import msgspec
from msgspec.structs import replace

from hotseat.cli.selftest.measures.own_stage import OwnStage
from hotseat.cli.selftest.rules import orders as o
from hotseat.protocol.selftest import Measured

Tell = Callable[[Measured], None]


def main() -> None:
    """The daemon that entries shared ends with it, in order."""
    os.umask(0o077)
    own = OwnStage()
    try:
        for line in sys.stdin:
            found = _measure(o.MEASURE_ORDER.decode(line), own, _tell)
            _tell(replace(found, is_last=True))
    finally:
        own.close()


def _tell(measured: Measured) -> None:
    sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
    sys.stdout.flush()


def _measure(order: o.MeasureOrder, own: OwnStage, tell: Tell) -> Measured:
    match order:
        case o.LookBack() | o.DescribeMachine() | o.CountCrashReports():
            return _look(order)
        case o.ReadMemory() | o.WatchFootprint() | o.CommitRows():
            return _try_machine(order)
        case o.CountRoundTrips() | o.KillIdle() | o.KillBusy():
            return _try_processes(order, own)
        case o.Churn():
            from hotseat.cli.selftest.measures.churning import churn

            return churn(order, own, tell)
        case _:
            return _try_model(order, own)


def _look(order: o.LookBack | o.DescribeMachine | o.CountCrashReports) -> Measured:
    from hotseat.cli.selftest.measures import machine

    match order:
        case o.LookBack():
            return machine.look_back(order)
        case o.DescribeMachine():
            return machine.describe_machine(Path(order.folder))
        case o.CountCrashReports():
            return machine.count_crash_reports(order)
        case _:
            assert_never(order)


def _try_machine(order: o.ReadMemory | o.WatchFootprint | o.CommitRows) -> Measured:
    from hotseat.cli.selftest.measures import commits, memory

    match order:
        case o.ReadMemory():
            return memory.read_memory(order)
        case o.WatchFootprint():
            return memory.watch_footprint(order)
        case o.CommitRows():
            return commits.commit_rows(order)
        case _:
            assert_never(order)


def _try_processes(order: o.CountRoundTrips | o.KillIdle | o.KillBusy, own: OwnStage) -> Measured:
    from hotseat.cli.selftest.measures import processes

    match order:
        case o.CountRoundTrips():
            return processes.count_round_trips(order, own)
        case o.KillIdle():
            return processes.kill_idle(order, own)
        case o.KillBusy():
            return processes.kill_busy(order, own)
        case _:
            assert_never(order)


def _try_model(
    order: o.Rest | o.ReachLimits | o.SwapAround | o.CompareTokens | o.LoseGpu, own: OwnStage
) -> Measured:
    from hotseat.cli.selftest.measures import comparing, resting, swapping

    match order:
        case o.Rest():
            return resting.rest(order, own)
        case o.ReachLimits():
            return resting.reach_limits(order, own)
        case o.SwapAround():
            return swapping.swap_around(order, own)
        case o.CompareTokens():
            return comparing.compare_tokens(order, own)
        case o.LoseGpu():
            return comparing.lose_gpu(order, own)
        case _:
            assert_never(order)


if __name__ == "__main__":
    main()
