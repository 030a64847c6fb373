"""What was measured and outlives the daemon: overheads of models, costs of swaps and turns."""

from typing import Final

from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.scheduling.forecaster import Forecaster
from hotseat.supervisor.scheduling.learned_costs import decode_costs, encode_costs

COSTS_KEY: Final = "measured_costs"
KEEP_EVERY_S: Final = 30.0


class KeptFigures:
    """Reads them at the start and writes what was learnt."""

    def __init__(self, catalogue: Catalogue, planner: Planner, forecaster: Forecaster) -> None:
        self._catalogue = catalogue
        self._planner = planner
        self._forecaster = forecaster
        self._kept = forecaster.costs
        self._kept_at = 0.0

    async def recall(self) -> None:
        """What earlier runs of the daemon measured."""
        self._kept = decode_costs(await self._catalogue.meta_get(COSTS_KEY))
        self._forecaster.costs_are(self._kept)
        for record in self._planner.registry.records():
            known = await self._catalogue.meta_get(_overhead_key(record))
            if known is not None and known.isdigit():
                self._planner.overheads[record.tag] = int(known)

    async def note_overhead(self, record: ModelRecord, overhead_bytes: int) -> None:
        """What a worker holds beside weights and KV, for the next plan."""
        if self._planner.note_overhead(record, overhead_bytes):
            known = str(self._planner.overheads[record.tag])
            await self._catalogue.meta_set(_overhead_key(record), known)

    async def keep(self, now: float) -> None:
        """Writes costs, at most every half minute."""
        if now - self._kept_at >= KEEP_EVERY_S:
            self._kept_at = now
            await self.keep_now()

    async def keep_now(self) -> None:
        """Writes costs that were learnt since they were last written."""
        if self._forecaster.costs is not self._kept:
            self._kept = self._forecaster.costs
            await self._catalogue.meta_set(COSTS_KEY, encode_costs(self._kept))


def _overhead_key(record: ModelRecord) -> str:
    return f"overhead:{record.tag}"
