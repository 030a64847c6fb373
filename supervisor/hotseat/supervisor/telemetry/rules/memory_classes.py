"""Which part of the machine's memory belongs to whom. Pure.

The numbers come from different clocks: available memory is of this moment, what the worker tells up
to 200 ms old. So each class is cut to what the ones before it left, and the sum always holds.
"""

from msgspec import Struct


class Holdings(Struct, frozen=True, kw_only=True):
    """What was measured, bytes. `model_bytes`: weights according to the model's record."""

    total: int
    available: int
    worker: int = 0
    active: int = 0
    live_kv: int = 0
    model_bytes: int = 0
    standby: int = 0


class MemoryClasses(Struct, frozen=True, kw_only=True):
    """Bytes; all six together are the machine's memory."""

    weights: int
    live_kv: int
    runtime: int
    standby: int
    other: int
    free: int


def memory_classes(held: Holdings) -> MemoryClasses:
    """The machine's memory by class. While a model loads its weights grow with what is there."""
    total = max(0, held.total)
    used = _within(total - held.available, total)
    worker = _within(held.worker, used)
    live_kv = _within(held.live_kv, worker)
    loaded = _within(held.active - live_kv, held.model_bytes)
    weights = _within(loaded, worker - live_kv)
    standby = _within(held.standby, used - worker)
    return MemoryClasses(
        weights=weights,
        live_kv=live_kv,
        runtime=worker - weights - live_kv,
        standby=standby,
        other=used - worker - standby,
        free=total - used,
    )


def _within(value: int, most: int) -> int:
    return max(0, min(value, most))
