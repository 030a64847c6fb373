"""Has the worker write sessions of the seated model that were quiet for a while.

When that is, is a rule (`rules/quiet_for_long.py`); here are the times it is decided from.
"""

from hotseat.protocol.ids import ModelName, SessionName
from hotseat.protocol.link_orders import QUIET_CHECKPOINT, Checkpoint
from hotseat.supervisor.kv.daily_writing import DailyWriting
from hotseat.supervisor.requests.rules.quiet_for_long import SessionKey, sessions_to_checkpoint
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings


class QuietSessions:
    """Sessions whose tails may not be on disk yet."""

    def __init__(self, works: Works, seat: Seat, settings: Settings, days: DailyWriting) -> None:
        self._days = days
        self._works = works
        self._seat = seat
        self._quiet_s = settings.kv.idle_checkpoint_s
        self._ended_at: dict[SessionKey, float] = {}

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._quiet_s = settings.kv.idle_checkpoint_s

    def note_end(self, work: Work, now: float) -> None:
        """A request of a session ended; what must not persist is not followed."""
        if work.request.session is not None and work.persist:
            key = ModelName(work.model), SessionName(work.request.session)
            self._ended_at[key] = now

    def tick(self, now: float) -> None:
        """Asks the worker to write what has been quiet; other models were written at their swap."""
        seated = self._seat.seated
        if seated is None:
            return
        model = ModelName(seated)
        self._ended_at = {key: at for key, at in self._ended_at.items() if key[0] == model}
        for work in self._works.in_state(WorkState.WAITING):
            if work.held_as is not None and work.model == seated and work.persist:
                self._ended_at.setdefault((model, SessionName(work.held_as)), now)
        busy = {
            (ModelName(work.model), SessionName(work.request.session))
            for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING)
            if work.request.session is not None
        }
        if self._days.is_much:
            return
        due = sessions_to_checkpoint(
            self._ended_at,
            busy,
            seated=model,
            is_running=self._works.running > 0,
            now=now,
            quiet_s=self._quiet_s,
        )
        for key in due:
            del self._ended_at[key]
        if due:
            names = tuple(name for _, name in due)
            self._seat.send(Checkpoint(swap=QUIET_CHECKPOINT, sessions=names))
