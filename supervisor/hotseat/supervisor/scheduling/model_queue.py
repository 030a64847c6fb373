"""The queue of models that wait for the seat: first come, first served. Pure.

A model stands in it at most once, from its first waiting request on. The model that holds the
seat does not stand in it; it joins again at the end when it has left the seat with work left.
"""

from collections.abc import Sequence

from msgspec import Struct

from hotseat.supervisor.scheduling.waiting import Waiting


class ModelQueue(Struct, frozen=True, kw_only=True):
    """All that the scheduler remembers from one decision to the next."""

    models: tuple[str, ...] = ()
    """Those that wait for the seat, in the order they get it."""
    seated: str | None = None
    """Who held the seat when it was last settled."""

    @property
    def head(self) -> str | None:
        """The model that gets the seat next."""
        return self.models[0] if self.models else None


def queue_models(queue: ModelQueue, waiting: Sequence[Waiting], seated: str | None) -> ModelQueue:
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
    stay = tuple(model for model in queue.models if model in first)
    joining = sorted(
        (entry for entry in first.values() if entry.model not in stay),
        key=lambda entry: (entry.model == queue.seated, entry.order),
    )
    return ModelQueue(models=(*stay, *(entry.model for entry in joining)), seated=seated)
