"""What is known of the one request on its way into a batch. Holds data, does nothing."""

import time
from typing import Any

from hotseat.worker.batch.lane import Lane
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.capture import Room
from hotseat.worker.context.restoring import RestorePlan


class Entering:
    """A request that has a place in a lane and is not inserted yet."""

    def __init__(self, turn: Turn, lane: Lane) -> None:
        self.turn = turn
        self.lane = lane
        self.caches: list[Any] | None = None
        self.plan: RestorePlan | None = None
        self.room: Room | None = None
        """Memory for what is being read."""
        self.live_name: str | None = None
        """Under which name the live KV lay that it took."""
        self.live_tokens = 0
        self.miss = ""
        self.began_at = time.monotonic()
