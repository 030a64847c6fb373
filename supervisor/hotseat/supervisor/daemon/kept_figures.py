"""What outlives the daemon: overheads and trials of models, costs of swaps and turns, limits."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.protocol.model import ModelRecord
from hotseat.protocol.streamed_contexts import ContextTrial
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.overhead import Overhead
from hotseat.supervisor.models.rules.residence import ReadRate
from hotseat.supervisor.models.rules.working_set import WorkingSet
from hotseat.supervisor.scheduling.forecaster import Forecaster
from hotseat.supervisor.scheduling.learned_costs import Costs, decode_costs, encode_costs

COSTS_KEY: Final = "measured_costs"
WORKING_SET_KEY: Final = "working_set"
READ_RATE_KEY: Final = "read_rate"
KEEP_EVERY_S: Final = 30.0


def read_costs(catalogue: Path) -> Costs:
    """What was measured, whether a daemon runs or not; nothing where no file tells."""
    return decode_costs(_read(catalogue, COSTS_KEY))


def read_disk_rate(catalogue: Path) -> ReadRate:
    """How fast weights were read here, whether a daemon runs or not."""
    return _decode_rate(_read(catalogue, READ_RATE_KEY)) or ReadRate()


def _read(catalogue: Path, key: str) -> str | None:
    try:
        with closing(sqlite3.connect(f"{catalogue.as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row else None


def _decode_rate(text: str | None) -> ReadRate | None:
    """None for what cannot be read: it is measured again."""
    try:
        return None if text is None else msgspec.json.decode(text, type=ReadRate)
    except msgspec.MsgspecError:
        return None


class _KeptSet(Struct, frozen=True, kw_only=True):
    boot: str
    working_set: WorkingSet


class _KeptOverhead(Struct, frozen=True, kw_only=True):
    mlx: str
    overhead: Overhead


class KeptFigures:
    """Reads them at the start and writes what was learnt."""

    def __init__(
        self, catalogue: Catalogue, planner: Planner, forecaster: Forecaster, boot: str, mlx: str
    ) -> None:
        """What the system allows holds for one `boot`, an overhead for one version of `mlx`."""
        self._catalogue = catalogue
        self._planner = planner
        self._forecaster = forecaster
        self._kept = forecaster.costs
        self._kept_at = 0.0
        self._boot = boot
        self._mlx = mlx
        self._kept_set: WorkingSet | None = None
        self._kept_rate = ReadRate()
        self._kept_trials: dict[str, ContextTrial] = {}

    async def recall(self) -> None:
        """What earlier runs of the daemon measured."""
        self._kept = decode_costs(await self._catalogue.meta_get(COSTS_KEY))
        self._forecaster.costs_are(self._kept)
        self._recall_working_set(await self._catalogue.meta_get(WORKING_SET_KEY))
        self._recall_read_rate(await self._catalogue.meta_get(READ_RATE_KEY))
        for record in self._planner.registry.records():
            self._recall_overhead(record, await self._catalogue.meta_get(_overhead_key(record)))
            self._recall_trial(record, await self._catalogue.meta_get(_trial_key(record.tag)))

    def _recall_working_set(self, text: str | None) -> None:
        """Metal's limit, if it was told under this boot: the first plan needs it already."""
        try:
            kept = None if text is None else msgspec.json.decode(text, type=_KeptSet)
        except msgspec.DecodeError:
            return
        if kept is not None and kept.boot == self._boot:
            self._kept_set = self._planner.own.working_set = kept.working_set

    def _recall_read_rate(self, text: str | None) -> None:
        """What the disk gave the last time that weights were read as they were needed."""
        if (kept := _decode_rate(text)) is not None:
            self._kept_rate = self._planner.reading = kept

    def _recall_overhead(self, record: ModelRecord, text: str | None) -> None:
        """What an older daemon kept, the most that it ever saw, says little and is forgotten."""
        try:
            kept = None if text is None else msgspec.json.decode(text, type=_KeptOverhead)
        except msgspec.DecodeError:
            return
        if kept is not None and kept.mlx == self._mlx:
            self._planner.overheads[record.tag] = kept.overhead

    def _recall_trial(self, record: ModelRecord, text: str | None) -> None:
        """The worker says whether it still holds; what cannot be read is tried again."""
        try:
            kept = None if text is None else msgspec.json.decode(text, type=ContextTrial)
        except msgspec.MsgspecError:
            return
        if kept is not None:
            self._kept_trials[record.tag] = self._planner.trials[record.tag] = kept

    async def note_overhead(self, record: ModelRecord, overhead_bytes: int) -> None:
        """What a worker holds beside weights and KV, for the next plan."""
        if self._planner.note_overhead(record, overhead_bytes):
            kept = _KeptOverhead(mlx=self._mlx, overhead=self._planner.overheads[record.tag])
            text = msgspec.json.encode(kept).decode()
            await self._catalogue.meta_set(_overhead_key(record), text)

    async def keep(self, now: float) -> None:
        """Writes costs, at most every half minute."""
        if now - self._kept_at >= KEEP_EVERY_S:
            self._kept_at = now
            await self.keep_now()

    async def keep_now(self) -> None:
        """Writes what was learnt since it was last written."""
        if self._forecaster.costs is not self._kept:
            self._kept = self._forecaster.costs
            await self._catalogue.meta_set(COSTS_KEY, encode_costs(self._kept))
        rate = self._planner.reading
        if rate != self._kept_rate:
            self._kept_rate = rate
            await self._catalogue.meta_set(READ_RATE_KEY, msgspec.json.encode(rate).decode())
        for tag, trial in list(self._planner.trials.items()):
            if self._kept_trials.get(tag) != trial:
                self._kept_trials[tag] = trial
                await self._catalogue.meta_set(_trial_key(tag), msgspec.json.encode(trial).decode())
        known = self._planner.own.working_set
        if known is not None and known != self._kept_set:
            self._kept_set = known
            kept = _KeptSet(boot=self._boot, working_set=known)
            await self._catalogue.meta_set(WORKING_SET_KEY, msgspec.json.encode(kept).decode())


def _overhead_key(record: ModelRecord) -> str:
    return f"overhead:{record.tag}"


def _trial_key(tag: str) -> str:
    return f"contexts_tried:{tag}"
