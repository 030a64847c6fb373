"""The queue of models that wait for the seat: first come, first served. Pure.

A model stands in it at most once, from its first waiting request on. The model that holds the
seat does not stand in it; it joins again at the end when it has left the seat with work left.
"""

from collections.abc import Sequence

from msgspec import Struct

from hotseat.supervisor.scheduling.waiting import Waiting


class QueuedModel(Struct, frozen=True, kw_only=True):
    """A model that waits for the seat."""

    model: str
    joined_at: float


class ModelQueue(Struct, frozen=True, kw_only=True):
    """All that the scheduler remembers from one decision to the next."""

    entries: tuple[QueuedModel, ...] = ()
    seated: str | None = None
    """Who held the seat when it was last settled."""

    @property
    def head(self) -> str | None:
        """The model that gets the seat next."""
        return self.entries[0].model if self.entries else None

    @property
    def models(self) -> tuple[str, ...]:
        """In the order they get the seat."""
        return tuple(entry.model for entry in self.entries)


def queue_models(
    queue: ModelQueue, waiting: Sequence[Waiting], seated: str | None, now: float
) -> ModelQueue:
    """The queue as of a settled seat: models without requests are out, new ones join at the end.

    The model that has just lost the seat joins after those whose requests came during the swap.
    Joining at the begin of the swap would put it before them, and then somebody could wait for
    one swap more than the bound says.
    """
    first: dict[str, Waiting] = {}
    for entry in waiting:
        if entry.never_swaps or entry.model == seated:
            continue
        known = first.get(entry.model)
        if known is None or entry.order < known.order:
            first[entry.model] = entry
    stay = tuple(entry for entry in queue.entries if entry.model in first)
    held = {entry.model for entry in stay}
    joining = sorted(
        (entry for entry in first.values() if entry.model not in held),
        key=lambda entry: (entry.model == queue.seated, entry.order),
    )
    joined = tuple(
        QueuedModel(
            model=entry.model,
            joined_at=now if entry.model == queue.seated else min(entry.since, now),
        )
        for entry in joining
    )
    return ModelQueue(entries=(*stay, *joined), seated=seated)
