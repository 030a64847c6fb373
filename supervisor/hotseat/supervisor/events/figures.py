"""Figures that are too dear to measure at every question, and notes of this run. Holds them."""

from typing import Literal

from hotseat.protocol.views import GatewayView, RecoveryView


class Figures:
    """One per daemon; whoever learns a figure notes it here."""

    def __init__(self) -> None:
        self.kv_disk_bytes = 0
        self.sessions_total = 0
        self.load_percent: float | None = None
        self.pressure: int | None = None
        """As the system says it: 1, 2 or 4 on macOS."""
        self.shedding = ""
        self.barred: str | None = None
        """The model that only a person may seat."""
        self.keeps_awake: Literal["", "request", "swap"] = ""
        """What for the machine is kept awake."""
        self.recovery: RecoveryView | None = None
        """What the last run left."""
        self.notices: tuple[str, ...] = ()
        """What a person should know and do something about, as found at the start."""
        self.pages_notice = ""
        """The same of wired pages that do not come back; empty once they do."""
        self.gateway: GatewayView | None = None
        """The HTTP gateway, where there is to be one."""
        self.gpu_errors = 0
        """Workers that lost the GPU since the start."""
