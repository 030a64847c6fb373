"""Keeps KV on disk within its budget and above the free-space floor, and tells how full it is.

How much goes, and which files, is decided by rules. Sessions lose KV here, never their messages.
"""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from hotseat.protocol.disk_views import DiskTagView, DiskView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, SessionName, Tag
from hotseat.supervisor.catalogue.eviction import Evicted, Kept, TagUsage
from hotseat.supervisor.catalogue.rules.eviction_order import Worth
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.kv.rules.disk_budget import DiskState, bytes_to_free
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.settings.values import Settings

LOOK_S: Final = 5.0
"""How often the volume is looked at when nothing is written."""
REST_LOOK_S: Final = 30.0
"""The same while the daemon rests."""
PACE_S: Final = 0.25
"""Least time between two looks."""
YOUNG_S: Final = 2.0
"""A file or a live session is spared for so long after it was last seen in use."""
WRITTEN_KEY: Final = "kv_bytes_written"
DAYS_KEY: Final = "kv_bytes_by_day"
log = structlog.get_logger()
SessionKey = tuple[ModelName, SessionName]


class KvUse(Protocol):
    """What of the KV is in use, beside what is leased."""

    def sessions(self) -> frozenset[SessionKey]:
        """Sessions with a request that has not ended, or with KV in memory."""

    def running_since(self) -> float | None:
        """When the longest running request was sent to a worker; None when none runs."""


class DiskTier:
    """Evicts when there is too much. `run` is a task of the daemon."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        keeper: KvKeeper,
        registry: Registry,
        use: KvUse,
        events: EventLog,
        settings: Settings,
        kv_dir: Path,
    ) -> None:
        self._catalogue = catalogue
        self._keeper = keeper
        self._registry = registry
        self._use = use
        self._events = events
        self._kv_dir = kv_dir
        self._settings = settings.kv
        self._seen: dict[SessionKey, float] = {}
        self._is_over = False
        self._tags: frozenset[Tag] = frozenset()
        """Of all KV on disk, when it was last looked at."""
        self._told_cold: frozenset[Tag] = frozenset()
        self._written_before = 0
        """Bytes that earlier runs of the daemon wrote."""
        self._written_kept = 0
        self.used_bytes = 0

    async def recall(self) -> None:
        """What earlier runs wrote."""
        known = await self._catalogue.meta_get(WRITTEN_KEY)
        self._written_before = int(known) if known is not None and known.isdigit() else 0
        self._keeper.days.recall(await self._catalogue.meta_get(DAYS_KEY))

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._settings = settings.kv

    async def run(self, is_resting: Callable[[], bool]) -> None:
        """Looks after each write, and now and then; one that failed does not end it."""
        changed = self._keeper.changed
        while True:
            try:
                await self.keep_budget()
                await self.keep_count()
                if await self._catalogue.catch_up_files():
                    changed.set()  # a home of an older version gets its session files bit by bit
            except HotseatError as error:
                log.warning("kv.eviction_failed", code=error.code, reason=error.message)
            except OSError as error:
                log.warning("kv.eviction_failed", reason=str(error))
            except Exception:  # task root
                log.exception("kv.eviction_defect")
            await asyncio.sleep(PACE_S)
            try:
                async with asyncio.timeout(REST_LOOK_S if is_resting() else LOOK_S):
                    await changed.wait()
            except TimeoutError:
                continue
            finally:
                changed.clear()

    async def keep_count(self) -> None:
        """The bytes written survive the daemon; what a crash forgets is a moment's worth."""
        days = self._keeper.days
        written = self._keeper.bytes_written
        if written != self._written_kept:
            self._written_kept = written
            ever = str(self._written_before + written)
            await self._catalogue.meta_set(WRITTEN_KEY, ever)
            await self._catalogue.meta_set(DAYS_KEY, days.text)
        days.limit(self._settings.daily_write_bytes)
        if days.news():
            self._events.publish(
                "kv.much_written",
                today_bytes=days.today_bytes,
                limit_bytes=self._settings.daily_write_bytes,
            )

    async def keep_budget(self) -> Evicted:
        """Evicts down to low water if high water or the floor is passed."""
        state = await self.state()
        await self._tell_cold()
        wanted = bytes_to_free(state)
        if not wanted:
            self._is_over = False
            return Evicted()
        evicted = await self._catalogue.evict(wanted, self.kept())
        await self.remove(evicted)
        if evicted.size_bytes < wanted:
            self._tell_over(state, wanted - evicted.size_bytes)
        return evicted

    async def _tell_cold(self) -> None:
        """Says once of every tag that no model has any more, before anything of it is evicted."""
        usable = self.usable_tags()
        cold = self._tags - usable
        new, self._told_cold = cold - self._told_cold, cold
        if not new:
            return
        for row in await self._catalogue.usage(usable):
            if row.tag in new:
                self._events.publish(
                    "kv.became_cold",
                    tag=row.tag,
                    models=list(row.models),
                    sessions=row.sessions,
                    size_bytes=row.size_bytes,
                )

    async def remove(self, evicted: Evicted) -> None:
        """Unlinks what the catalogue has forgotten and tells whose context went."""
        if not evicted.files:
            return
        await self._keeper.unlink(list(evicted.files))
        self.used_bytes = max(0, self.used_bytes - evicted.size_bytes)
        self._events.publish(
            "kv.evicted",
            files=len(evicted.files),
            size_bytes=evicted.size_bytes,
            sessions=[f"{model}/{name}" for model, name in evicted.sessions],
        )

    async def collect(self, *, dry_run: bool) -> tuple[Evicted, Evicted]:
        """Everything of tags without a model, and everything that no session needs."""
        await self.state()
        await self._tell_cold()
        kept = self.kept()
        unusable = await self._catalogue.evict(float("inf"), kept, Worth.UNUSABLE, dry_run=dry_run)
        loose = await self._catalogue.evict(float("inf"), kept, Worth.UNREFERENCED, dry_run=dry_run)
        if not dry_run:
            await self.remove(unusable)
            await self.remove(loose)
            return unusable, loose
        # A dry run leaves the first part in place, so the second one holds it again.
        both = {(file.tag, file.file) for file in unusable.files}
        rest = tuple(file for file in loose.files if (file.tag, file.file) not in both)
        return unusable, Evicted(files=rest)

    async def state(self) -> DiskState:
        """The figures that decide."""
        totals = await self._catalogue.totals()
        self._tags = frozenset(total.tag for total in totals)
        self.used_bytes = sum(total.size_bytes for total in totals)
        disk = await asyncio.to_thread(shutil.disk_usage, self._kv_dir)
        return DiskState(
            used_bytes=self.used_bytes,
            free_bytes=disk.free,
            budget_bytes=self._settings.disk_budget_for(disk.free + self.used_bytes),
            floor_bytes=self._settings.free_floor_for(disk.total),
        )

    def usable_tags(self) -> frozenset[Tag]:
        """Tags that a registered model has."""
        return frozenset(record.tag for record in self._registry.records())

    def kept(self) -> Kept:
        """What is in use now: leases, sessions with work, live sessions, files just written."""
        now = time.monotonic()
        for key in self._use.sessions():
            self._seen[key] = now
        self._seen = {key: at for key, at in self._seen.items() if now - at <= YOUNG_S}
        since = self._use.running_since()
        oldest = now - YOUNG_S if since is None else min(now - YOUNG_S, since)
        return Kept(
            blocks=self._keeper.leased,
            tails=self._keeper.leased_tails,
            sessions=frozenset(self._seen),
            young_since=time.time() - (now - oldest),
            usable_tags=self.usable_tags(),
        )

    def _tell_over(self, state: DiskState, missing_bytes: int) -> None:
        """Once per time that nothing is left to evict."""
        if not self._is_over:
            self._is_over = True
            self._events.publish(
                "kv.over_budget",
                used_bytes=state.used_bytes,
                budget_bytes=state.budget_bytes,
                free_bytes=state.free_bytes,
                floor_bytes=state.floor_bytes,
                missing_bytes=missing_bytes,
            )

    async def view(self) -> DiskView:
        """For `hotseat disk`."""
        state = await self.state()
        usable = self.usable_tags()
        rows = await self._catalogue.usage(usable)
        names: dict[str, set[str]] = {}
        for record in self._registry.records():
            names.setdefault(record.tag, set()).add(record.name)
        written = self._keeper.bytes_written
        return DiskView(
            used_bytes=state.used_bytes,
            budget_bytes=state.budget_bytes,
            high_bytes=state.high_bytes,
            low_bytes=state.low_bytes,
            floor_bytes=state.floor_bytes,
            free_bytes=state.free_bytes,
            quarantined_bytes=await asyncio.to_thread(self._keeper.quarantine.size_bytes),
            bytes_written=written,
            bytes_written_ever=self._written_before + written,
            bytes_written_today=self._keeper.days.today_bytes,
            bytes_written_a_day=self._keeper.days.day_bytes,
            daily_write_bytes=self._settings.daily_write_bytes,
            tags=tuple(_tag_view(row, names.get(row.tag, set())) for row in rows),
        )


def _tag_view(row: TagUsage, names: set[str]) -> DiskTagView:
    return DiskTagView(
        tag=row.tag,
        models=tuple(sorted(names or set(row.models))),
        usable=row.is_usable,
        size_bytes=row.size_bytes,
        pinned_bytes=row.pinned_bytes,
        unreferenced_bytes=row.unreferenced_bytes,
        blocks=row.blocks,
        tails=row.tails,
        sessions=row.sessions,
        snapshots=row.snapshots,
    )
