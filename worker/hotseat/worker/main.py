"""`python -m hotseat.worker`: the worker process with the real engine."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hotseat.protocol.ids import Epoch
from hotseat.protocol.installed_code import own_code
from hotseat.protocol.link_reports import FromWorker, WorkerHello
from hotseat.worker.process import ComputeEngine, exit_process, parse_arguments, run_worker

if TYPE_CHECKING:
    from types import ModuleType


def import_libraries(secret: str) -> WorkerHello:
    """Imports mlx and mlx-lm, which takes seconds: afterwards a load pays for weights only."""
    import mlx.core as mx  # noqa: PLC0415 - guards and signals come first
    import mlx_lm  # noqa: F401, PLC0415 - same

    import hotseat.worker.engine  # noqa: F401, PLC0415 - same

    return WorkerHello(
        pid=os.getpid(),
        token=secret,
        working_set_bytes=_working_set_bytes(mx),
        code=own_code().digest,  # after the imports: a mixture is told from both
    )


def build_engine(
    send: Callable[[FromWorker], None], epoch: Epoch, wake: Callable[[], None]
) -> ComputeEngine:
    """The engine with a restorer that wakes the compute loop when files were read."""
    from hotseat.worker.engine import Engine  # noqa: PLC0415 - imports mlx
    from hotseat.worker.store.reader import Restorer  # noqa: PLC0415 - beside its user

    return Engine(send=send, restorer=Restorer(on_result=wake), epoch=epoch)


def main() -> None:
    """Never returns: the process ends with a code of `hotseat.protocol.exits`."""
    exit_process(run_worker(parse_arguments(sys.argv[1:]), import_libraries, build_engine))


def _working_set_bytes(mx: "ModuleType") -> int | None:
    """Metal's recommended working set; None where there is no Metal."""
    if not mx.metal.is_available():
        return None
    size = mx.device_info().get("max_recommended_working_set_size")
    return None if size is None else int(size)
