"""What Metal allows a process. Brings nothing into memory."""

import mlx.core as mx


def working_set_bytes() -> int | None:
    """What Metal lets a process wire on this machine; None without Metal."""
    if not mx.metal.is_available():
        return None
    return int(mx.device_info()["max_recommended_working_set_size"])
