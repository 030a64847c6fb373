"""Which KV on disk requests count on, as the disk tier asks it. Reads only."""

from hotseat.supervisor.kv.disk_tier import SessionKey
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.seat import Seat


class KvInUse:
    """Of sessions with requests, and of those whose KV is in memory."""

    def __init__(self, works: Works, seat: Seat) -> None:
        self._works = works
        self._seat = seat

    def sessions(self) -> frozenset[SessionKey]:
        """With a request that has not ended, or live as of the last beat."""
        return self._works.sessions_in_use | self._seat.live_sessions

    def running_since(self) -> float | None:
        """When the longest running request was sent to a worker."""
        return self._works.running_since
