"""The order by which a worker loads a model: limits from the memory plan, folder of its KV."""

import shutil
from pathlib import Path
from typing import Final

from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import Load, Wiring
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.streamed_contexts import ContextTrial
from hotseat.protocol.views import PlanView
from hotseat.supervisor.settings.values import KvSettings

_CACHE_LOW_BYTES: Final = 64 * MIB


def load_order(
    record: ModelRecord,
    plan: PlanView,
    kv_dir: Path,
    settings: KvSettings,
    wire: Wiring,
    trial: ContextTrial | None,
) -> Load:
    """Makes the folder if it is not there."""
    kv_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk = shutil.disk_usage(kv_dir)
    return Load(
        record=record,
        kv_dir=str(kv_dir),
        kv_budget_bytes=plan.kv_budget_bytes,
        cache_limit_bytes=max(plan.prefill_peak_bytes, _CACHE_LOW_BYTES),
        memory_limit_bytes=plan.limit_bytes,
        disk_floor_bytes=settings.free_floor_for(disk.total),
        wire=wire,
        residence=plan.residence,
        contexts=plan.contexts,
        trial=trial,
    )
