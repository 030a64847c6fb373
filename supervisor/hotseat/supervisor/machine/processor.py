"""Whether MLX exists for this machine at all. Knows nothing of versions."""

import platform
import sys

from hotseat.protocol.errors import HotseatError

NO_INTEL = (
    "MLX has no build for Intel processors of Macs, so no model can be seated here: models want "
    "Apple silicon and a native (arm64) Python; the client works anywhere (`pip install hotseat`)"
)


def is_intel_mac(system: str = sys.platform, machine: str | None = None) -> bool:
    """True on an Intel Mac, and for a Python that was built for one."""
    return system == "darwin" and (machine or platform.machine()) != "arm64"


def refuse_intel_mac(system: str = sys.platform, machine: str | None = None) -> None:
    """Raises `HotseatError` (unsupported_feature) where there can be no model."""
    if is_intel_mac(system, machine):
        raise HotseatError("unsupported_feature", NO_INTEL, machine=machine or platform.machine())
