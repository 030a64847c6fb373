"""Which request is to blame when workers die under it, and who may run beside whom meanwhile. Pure.

A death blames nobody as long as work advanced before it. After a death with several requests on
the worker each of them is suspect and resumes alone, until it gets further than it ever was.

Weights that cannot be read are no request's fault, and yet some requests need them and others do
not. Whoever needs them advances up to that point with every worker: such ends are counted on.
"""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.supervisor.scheduling.waiting import Waiting

MAX_LONE_DEATHS: Final = 2
MAX_LONE_KILLS: Final = 3
"""Kills by the system are counted apart: memory may have been short for another's sake."""
MAX_LONE_GPU_LOSSES: Final = 2
"""So are losses of the GPU: a first one says more of the process than of the request."""
MAX_DISK_ENDS: Final = 3
"""Ends by weights that could not be read. After all but the last a request stays alone."""


class Suspicion(Struct, frozen=True, kw_only=True):
    """What is held against a request."""

    is_suspect: bool = False
    advanced: bool = False
    """It got further than ever since the last death."""
    lone_deaths: int = 0
    lone_kills: int = 0
    lone_gpu_losses: int = 0
    disk_ends: int = 0
    """Ends of its workers by weights that could not be read, whether it advanced or not."""

    @property
    def needs_unreadable(self) -> bool:
        """True when it asks for weights that no worker could read."""
        return self.disk_ends >= MAX_DISK_ENDS

    @property
    def is_poison(self) -> bool:
        """True when no worker survives it."""
        return (
            self.lone_deaths >= MAX_LONE_DEATHS
            or self.lone_kills >= MAX_LONE_KILLS
            or self.lone_gpu_losses >= MAX_LONE_GPU_LOSSES
        )

    @property
    def count(self) -> int:
        """Ends of workers that it was alone on without getting further."""
        return self.lone_deaths + self.lone_kills + self.lone_gpu_losses


def after_progress(known: Suspicion) -> Suspicion:
    """The request got further than ever."""
    return Suspicion(
        is_suspect=_comes_alone(known.disk_ends), advanced=True, disk_ends=known.disk_ends
    )


def after_death(
    known: Suspicion,
    *,
    alone: bool,
    by_system: bool = False,
    by_gpu: bool = False,
    by_disk: bool = False,
) -> Suspicion:
    """The worker died under a request, which was `alone` on it or not."""
    if by_disk:
        ends = known.disk_ends + 1
        if not alone:  # it may be another one that asked for them
            ends = min(ends, MAX_DISK_ENDS - 1)
        is_suspect = known.is_suspect or _comes_alone(ends)
        return replace(known, is_suspect=is_suspect, disk_ends=ends)
    if known.advanced:
        return Suspicion(is_suspect=True, disk_ends=known.disk_ends)
    if not alone:
        return replace(known, is_suspect=True)
    return replace(
        known,
        is_suspect=True,
        lone_deaths=known.lone_deaths + (not by_system and not by_gpu),
        lone_kills=known.lone_kills + by_system,
        lone_gpu_losses=known.lone_gpu_losses + by_gpu,
    )


def resume_alone(
    waiting: Sequence[Waiting], running: Sequence[Waiting], suspects: Collection[str]
) -> list[Waiting]:
    """Those of `waiting` that may start: of a model with suspects only one, and only if none runs.

    Suspects go first. Other models are not concerned.
    """
    held = {entry.model for entry in (*waiting, *running) if entry.key in suspects}
    busy = {entry.model for entry in running}
    first: dict[str, str] = {}
    for entry in waiting:
        if entry.model in held - busy and entry.key in suspects:
            first.setdefault(entry.model, entry.key)
    return [
        entry for entry in waiting if entry.model not in held or first.get(entry.model) == entry.key
    ]


def _comes_alone(disk_ends: int) -> bool:
    """True once the next such end has to say whether it was this request that asked."""
    return disk_ends >= MAX_DISK_ENDS - 1
