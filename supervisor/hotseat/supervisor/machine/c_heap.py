"""How the C heap of the daemon treats large blocks. Must not know what is in them.

A message of many MiB is rare here and gone a moment later. By its own rule glibc takes the first
large block it sees freed as a reason to serve the next ones from its heap, and what is freed there
stays with the process while anything behind it is in use: tens of MiB that no model can have.
"""

import ctypes
import sys
from typing import Final

from hotseat.protocol.limits import MIB

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
LARGE_BYTES: Final = MIB
"""From this size a block is mapped by itself and goes back to the system when it is freed.

Tokens, events and answers are far below; at 1 MiB mapping costs little beside reading the bytes.
"""


def return_large_blocks() -> bool:
    """Fixes glibc's threshold (`mallopt`, malloc.h) at `LARGE_BYTES`; False on other libraries."""
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    done = [set_option(name, LARGE_BYTES) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(done)
