"""How long a fresh process takes to its first tokens and chunks. Judges nothing.

Imports mlx where the time of that is taken.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil

from hotseat.protocol.model import RECORD_FILE, ModelRecord
from hotseat.protocol.selftest import Absent, Fact, Measured, WarmKernels, figure

_MS: Final = 1000.0
_CHUNK: Final = 256
_TOKEN: Final = 5
_NO_METAL: Final = Absent(name="metal_device", reason="MLX computes on the CPU here")


def read_record(model: str) -> ModelRecord:
    """The record of a registered model's folder."""
    return msgspec.json.decode((Path(model) / RECORD_FILE).read_bytes(), type=ModelRecord)


def warm_kernels(order: WarmKernels) -> Measured:
    """Milliseconds a step, in the order in which a worker comes by them."""
    import mlx.core as mx  # noqa: PLC0415 - its time is measured
    import mlx_lm  # noqa: F401, PLC0415 - same

    import_ms = (time.time() - psutil.Process().create_time()) * _MS
    device_ms = _timed_ms(lambda: mx.eval(mx.ones((8, 8)) @ mx.ones((8, 8))))

    from hotseat.worker.model.building import build_model  # noqa: PLC0415 - imports mlx
    from hotseat.worker.model.caches import new_caches  # noqa: PLC0415 - same

    record = read_record(order.model)
    started = time.perf_counter()
    model, _config = build_model(Path(record.path))
    mx.eval(model.parameters())
    load_ms = (time.perf_counter() - started) * _MS

    def feed(count: int, cache: object) -> Callable[[], None]:
        ids = mx.array([[_TOKEN] * count])
        return lambda: mx.eval(model(ids, cache=cache))

    cache = new_caches(model)
    token_ms = [_timed_ms(feed(1, cache)) for _ in range(2)]
    cache = new_caches(model)
    chunk_ms = [_timed_ms(feed(_CHUNK, cache)) for _ in range(2)]
    return Measured(
        figures=(
            figure("import_ms", import_ms),
            figure("device_ms", device_ms),
            figure("load_ms", load_ms),
            figure("first_token_ms", token_ms[0]),
            figure("second_token_ms", token_ms[1]),
            figure("first_chunk_ms", chunk_ms[0]),
            figure("second_chunk_ms", chunk_ms[1]),
        ),
        facts=_device_facts(mx.device_info()) if mx.metal.is_available() else (),
        absent=() if mx.metal.is_available() else (_NO_METAL,),
    )


def _device_facts(info: Mapping[str, object]) -> tuple[Fact, ...]:
    """Working set, largest buffer, limit of resources, architecture: what Metal says of itself."""
    return tuple(Fact(name=f"metal_{name}", value=str(value)) for name, value in info.items())


def _timed_ms(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * _MS
