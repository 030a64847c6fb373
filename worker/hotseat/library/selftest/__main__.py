"""`python -m hotseat.library.selftest`: an order on stdin, lines of what was measured on stdout.

Imports late what an order needs: the time of an import is one of the measurements.
"""

import os
import sys
from collections.abc import Callable
from typing import assert_never

import msgspec

from hotseat.library.own_stdout import take_stdout
from hotseat.protocol.selftest import (
    LIBRARY_ORDER,
    CompareSlots,
    DecodeBare,
    DecodeEngine,
    LibraryOrder,
    MakeModels,
    Measured,
    StoreFile,
    SyncFiles,
    TouchMemory,
    WarmKernels,
)


def main() -> None:
    """Ends without destructors, as a worker does."""
    os.umask(0o077)
    stream = take_stdout()

    def tell(measured: Measured) -> None:
        stream.write(msgspec.json.encode(measured).decode() + "\n")
        stream.flush()

    found = _measure(LIBRARY_ORDER.decode(sys.stdin.readline()), tell)
    tell(msgspec.structs.replace(found, is_last=True))
    os._exit(0)


def _measure(order: LibraryOrder, tell: Callable[[Measured], None]) -> Measured:  # noqa: PLR0911 - one a kind
    match order:
        case MakeModels():
            from hotseat.library.selftest.models import make_models  # noqa: PLC0415 - costs seconds

            return make_models(order)
        case TouchMemory():
            from hotseat.library.selftest.memory import touch_memory  # noqa: PLC0415 - imports mlx

            return touch_memory(order, sys.stdin, tell)
        case SyncFiles():
            from hotseat.library.selftest.disk import sync_files  # noqa: PLC0415 - imports numpy

            return sync_files(order)
        case StoreFile():
            from hotseat.library.selftest.disk import store_file  # noqa: PLC0415 - imports numpy

            return store_file(order)
        case CompareSlots():
            from hotseat.library.selftest.slots import compare_slots  # noqa: PLC0415 - costs seconds

            return compare_slots(order)
        case WarmKernels():
            from hotseat.library.selftest.kernels import warm_kernels  # noqa: PLC0415 - measured

            return warm_kernels(order)
        case DecodeBare():
            from hotseat.library.selftest.speed import decode_bare  # noqa: PLC0415 - costs seconds

            return decode_bare(order)
        case DecodeEngine():
            from hotseat.library.selftest.speed import decode_engine  # noqa: PLC0415 - same

            return decode_engine(order)
        case _:
            assert_never(order)


if __name__ == "__main__":
    main()
