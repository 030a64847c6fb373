"""Remembers when sessions of the seated model were last in use. Decides nothing."""

from collections.abc import Callable

from hotseat.protocol.ids import ModelName, SessionName
from hotseat.protocol.link import QUIET_CHECKPOINT, Checkpoint, ToWorker
from hotseat.supervisor.requests.rules.quiet_for_long import SessionKey, sessions_to_checkpoint
from hotseat.supervisor.requests.works import Work, Works, WorkState


class QuietSessions:
    """Sessions whose tails may not be on disk yet."""

    def __init__(self) -> None:
        self._ended_at: dict[SessionKey, float] = {}

    def note_end(self, work: Work, now: float) -> None:
        """A request of a session ended; what must not persist is not followed."""
        if work.request.session is not None and work.persist:
            key = ModelName(work.model), SessionName(work.request.session)
            self._ended_at[key] = now

    def checkpoint(
        self,
        works: Works,
        seated: str,
        now: float,
        quiet_s: float,
        send: Callable[[ToWorker], object],
    ) -> None:
        """Asks the worker to write what has been quiet; other models were written at their swap."""
        model = ModelName(seated)
        self._ended_at = {key: at for key, at in self._ended_at.items() if key[0] == model}
        for work in works.in_state(WorkState.WAITING):
            if work.held_as is not None and work.model == seated and work.persist:
                self._ended_at.setdefault((model, SessionName(work.held_as)), now)
        busy = {
            (ModelName(work.model), SessionName(work.request.session))
            for work in works.in_state(WorkState.STARTING, WorkState.RUNNING)
            if work.request.session is not None
        }
        due = sessions_to_checkpoint(
            self._ended_at,
            busy,
            seated=model,
            is_running=works.running > 0,
            now=now,
            quiet_s=quiet_s,
        )
        for key in due:
            del self._ended_at[key]
        if due:
            names = tuple(name for _, name in due)
            send(Checkpoint(swap=QUIET_CHECKPOINT, sessions=names))
