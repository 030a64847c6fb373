"""What the operating system swapped in and out since it started. Decides nothing.

Not to be confused with what hotseat writes: that is counted by whoever writes it.
"""

import sys
from collections.abc import Callable

import psutil
from msgspec import Struct

from hotseat.supervisor.machine.mach import MachHost


class Paging(Struct, frozen=True):
    """Bytes since the machine started."""

    swapped_in: int
    swapped_out: int


class MacPaging:
    """macOS: psutil counts reads of mapped files too, so the kernel is asked itself."""

    def __init__(self, host: MachHost | None = None) -> None:
        self._host = host or MachHost()

    def __call__(self) -> Paging:
        """Now."""
        found = self._host.statistics()
        if found is None:
            return Paging(0, 0)
        page_bytes = self._host.page_bytes
        return Paging(found.swapins * page_bytes, found.swapouts * page_bytes)


def linux_paging() -> Paging:
    """Linux: pages that went to and came from swap devices."""
    swap = psutil.swap_memory()
    return Paging(int(swap.sin), int(swap.sout))


def system_paging() -> Callable[[], Paging]:
    """The counter for this machine."""
    return MacPaging() if sys.platform == "darwin" else linux_paging
