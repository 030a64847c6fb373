"""Figures that are too dear to measure at every question. Holds them; measures nothing."""

from collections.abc import Callable
from typing import Literal


class Figures:
    """Numbers that are too dear to measure at every question; refreshed by the daemon's ticker."""

    def __init__(self) -> None:
        self.worker_footprint_bytes: int | None = None
        self.kv_disk_bytes = 0
        self.sessions_total = 0
        self.load_percent: float | None = None
        self.pressure: int | None = None
        self.shedding = ""
        self.barred: str | None = None
        self.idle_left_s: Callable[[], float | None] = lambda: None
        self.keeps_awake: Callable[[], Literal["", "request", "swap"]] = lambda: ""
