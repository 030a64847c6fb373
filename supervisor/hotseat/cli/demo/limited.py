"""The demonstration under a limit: a group of its own for the daemon and all that it starts."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

from hotseat.cli.demo.control_group import ControlGroup, Place, leftovers, places
from hotseat.cli.terminal.output import size
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB

PREFIX: Final = "hotseat-demo-"
LEAST_BYTES: Final = 512 * MIB
"""Half of it is what daemon, worker and standby take; with much less the system ends them."""
WAY_OUT: Final = (
    "run it as root, or inside a limit: systemd-run --user --scope -p MemoryMax={} hotseat demo"
    " --five-phases"
)


@contextlib.contextmanager
def within(limit_bytes: int | None) -> Iterator[list[str]]:
    """What a command begins with to run under the limit; nothing without one.

    Whatever is left inside at the end is ended, and the group removed. Raises `HotseatError`:
    invalid_request where the limit is too small or no group can be made.
    """
    if limit_bytes is None:
        yield []
        return
    check_limit(limit_bytes, sys.platform)
    group = made(limit_bytes, places(), f"{PREFIX}{os.getpid()}")
    try:
        yield group.inside(())
    finally:
        group.remove()


def check_limit(limit_bytes: int, system: str) -> None:
    """Raises `HotseatError` where no limit can be set, or not this one. `system`: sys.platform."""
    if system != "linux":
        raise HotseatError(
            "invalid_request",
            "--limit needs Linux's control groups, which no other system has; hotseat plan MODEL"
            f" --ram {size(limit_bytes)} says what would fit",
        )
    if limit_bytes < LEAST_BYTES:
        raise HotseatError(
            "invalid_request",
            f"--limit {size(limit_bytes)} is too little for daemon, worker, standby and a model:"
            f" {size(LEAST_BYTES)} at least",
        )


def made(limit_bytes: int, where: tuple[Place, ...], name: str) -> ControlGroup:
    """A limited group in the first place that takes one; what earlier runs left there is removed.

    Raises `HotseatError` with the system's reasons.
    """
    reasons = []
    for place in where:
        group = ControlGroup(place, name)
        try:
            for old in leftovers(place, PREFIX):
                ControlGroup(place, old).remove()
            group.make()
            group.limit(limit_bytes)
        except OSError as error:
            reasons.append(f"{place.memory}: {error.strerror or error}")
            with contextlib.suppress(OSError):
                group.remove()
            continue
        return group
    told = "; ".join(reasons) or "none of memory are mounted"
    ask = WAY_OUT.format(f"{limit_bytes // MIB}M")
    raise HotseatError("invalid_request", f"no control group can be made ({told}); {ask}")
