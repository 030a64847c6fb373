"""What requests about KV on disk are answered with. Knows no disk."""

from msgspec import Struct


class DiskTagView(Struct, frozen=True, kw_only=True):
    """KV on disk of one tag. `models` have it; what no registered one has (`usable`) goes first.

    `pinned_bytes` and `unreferenced_bytes` (no session needs them) are parts of `size_bytes`.
    """

    tag: str
    models: tuple[str, ...]
    usable: bool
    size_bytes: int
    pinned_bytes: int
    unreferenced_bytes: int
    blocks: int
    tails: int
    sessions: int
    snapshots: int = 0


class DiskView(Struct, frozen=True, kw_only=True):
    """KV on disk. Eviction begins above `high_bytes` and ends at `low_bytes`.

    `floor_bytes` stay free. `bytes_written` counts from the daemon's start, `_ever` from the first,
    `_today` from midnight UTC; `_a_day` is the mean of the last week. `daily_write_bytes`: the
    limit of the settings.
    """

    used_bytes: int
    budget_bytes: int
    high_bytes: int
    low_bytes: int
    floor_bytes: int
    free_bytes: int
    quarantined_bytes: int
    bytes_written: int
    bytes_written_ever: int
    bytes_written_today: int = 0
    bytes_written_a_day: int = 0
    daily_write_bytes: int | None = None
    tags: tuple[DiskTagView, ...] = ()


class KvFileView(Struct, frozen=True, kw_only=True):
    """A KV file, and what is the matter with it."""

    tag: str
    file: str
    size_bytes: int
    reason: str


class VerifyView(Struct, frozen=True, kw_only=True):
    """What reading all KV files found. `damaged` were put aside, `missing` are forgotten.

    `unknown` files belong to nothing; `gc` removes them.
    """

    files: int
    size_bytes: int
    seconds: float
    damaged: tuple[KvFileView, ...] = ()
    missing: tuple[KvFileView, ...] = ()
    unknown: int = 0


class GcView(Struct, frozen=True, kw_only=True):
    """What was removed, or would be. `items` are the first thousand of `files`."""

    dry_run: bool
    files: int
    size_bytes: int
    items: tuple[KvFileView, ...] = ()
    cold_sessions: tuple[str, ...] = ()
    """MODEL/SESSION of those that have to compute their context again."""
