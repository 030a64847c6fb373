"""What keeps the daemon's clocks fast, and what wakes them. Decides only whether there is work."""

from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules.states import SETTLED
from hotseat.supervisor.seat.seat import Seat


def daemon_rhythm(
    seat: Seat, works: Works, outbox: Outbox, swaps: AskedSwaps, events: EventLog
) -> Rhythm:
    """Rests when the seat is settled and nobody waits for anything; every event stirs it.

    Connections alone do not count: one that vanishes matters only to a request it reads.
    """

    def is_busy() -> bool:
        if seat.state.phase not in SETTLED:
            return True
        return works.are_under_way or outbox.has_readers or bool(swaps.wanted)

    rhythm = Rhythm(is_busy)
    events.watch(rhythm.stir)
    return rhythm
