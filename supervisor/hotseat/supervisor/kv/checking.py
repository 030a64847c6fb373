"""What people ask about KV on disk: how much, is it sound, remove what is of no use."""

import asyncio
import time
from pathlib import Path
from typing import Final

from hotseat.protocol.disk_views import GcView, KvFileView, VerifyView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Tag
from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.kv.files import find_orphans
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.kv.scan import KvScan

LISTED: Final = 1_000
"""Most files named in an answer."""
ORPHAN_AGE_S: Final = 60.0
"""A file that no row names may be on its way into the catalogue while it is younger."""


class KvChecks:
    """Answers `kv_verify` and `kv_gc`. One verification at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        keeper: KvKeeper,
        tier: DiskTier,
        events: EventLog,
        kv_dir: Path,
    ) -> None:
        self._catalogue = catalogue
        self._keeper = keeper
        self._tier = tier
        self._events = events
        self._kv_dir = kv_dir
        self._started_at = time.time()
        self._scan: KvScan | None = None

    def close(self) -> None:
        """The daemon ends: nobody waits for an answer."""
        if self._scan is not None:
            self._scan.cancel()

    async def verify(self) -> VerifyView:
        """Reads everything in a process of its own; damaged files are put aside."""
        if self._scan is not None:
            raise HotseatError("invalid_request", "KV files are being verified already; wait")
        started = time.monotonic()
        before = await self._named()
        self._scan = KvScan(self._kv_dir, headers=False)
        try:
            scan = await asyncio.to_thread(self._scan.run)
        finally:
            self._scan = None
        damaged = [
            KvFileView(tag=f.tag, file=f.file, size_bytes=f.size_bytes, reason=f.reason)
            for f in scan.files
        ]
        await self._keeper.put_aside(
            [KvFile(tag=Tag(f.tag), file=f.file, size_bytes=f.size_bytes) for f in damaged]
        )
        for view in damaged:
            self._events.publish("kv.quarantined", model=None, file=view.file, reason=view.reason)
        missing = await self._forget_missing(before)
        orphans = await asyncio.to_thread(
            find_orphans, self._kv_dir, await self._named(), time.time() - ORPHAN_AGE_S
        )
        return VerifyView(
            files=scan.count.files,
            size_bytes=scan.count.size_bytes,
            seconds=round(time.monotonic() - started, 3),
            damaged=tuple(damaged[:LISTED]),
            missing=tuple(missing[:LISTED]),
            unknown=len(orphans),
        )

    async def collect(self, *, dry_run: bool) -> GcView:
        """Removes, or lists, what no session needs, no model can use, or no row names."""
        # What workers of this daemon wrote is on its way; the next start sweeps what was lost.
        older_than = min(time.time() - ORPHAN_AGE_S, self._started_at)
        orphans = await asyncio.to_thread(
            find_orphans, self._kv_dir, await self._named(), older_than
        )
        unusable, loose = await self._tier.collect(dry_run=dry_run)
        if not dry_run:
            await self._keeper.unlink(orphans)
            await asyncio.to_thread(self._keeper.quarantine.clear)
        items = [
            KvFileView(tag=file.tag, file=file.file, size_bytes=file.size_bytes, reason=reason)
            for files, reason in (
                (unusable.files, "no registered model has its tag"),
                (loose.files, "no session needs it"),
                (orphans, "not in the catalogue"),
            )
            for file in files
        ]
        return GcView(
            dry_run=dry_run,
            files=len(items),
            size_bytes=sum(item.size_bytes for item in items),
            items=tuple(items[:LISTED]),
            cold_sessions=tuple(f"{model}/{name}" for model, name in unusable.sessions),
        )

    async def _named(self) -> dict[Tag, set[str]]:
        """Files that rows name, by tag."""
        folders = await asyncio.to_thread(lambda: [item.name for item in self._kv_dir.iterdir()])
        totals = await self._catalogue.totals()
        tags = {Tag(name) for name in folders} | {total.tag for total in totals}
        return {tag: await self._catalogue.files(tag) for tag in tags}

    async def _forget_missing(self, before: dict[Tag, set[str]]) -> list[KvFileView]:
        """Rows whose file is gone, of those that were there when it began."""

        def look() -> list[tuple[Tag, str]]:
            return [
                (tag, file)
                for tag, files in before.items()
                for file in sorted(files)
                if not (self._kv_dir / tag / file).exists()
            ]

        missing = []
        for tag, file in await asyncio.to_thread(look):
            if await self._catalogue.forget_file(tag, file):
                missing.append(KvFileView(tag=tag, file=file, size_bytes=0, reason="missing"))
        return missing
