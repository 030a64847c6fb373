"""What a request means for its session: loaded and planned once while neither of them changes.

Accepting looks at it first, so that input which cannot follow is refused at once, and starting
uses what accepting found. The plan itself is pure (`conversation/intake.py`).
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.conversation.intake import Intake, plan_turn
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.session_store import SessionStore, as_stored, clock_of
from hotseat.supervisor.requests.works import Work

KEPT: Final = 8
"""Plans kept for works that wait; each holds the context of its session."""


class PlannedTurn(Struct, frozen=True, kw_only=True):
    """A turn that could start. `change` is of the session when it was loaded."""

    request: Generate
    """With the model's defaults where the client said nothing."""
    record: ModelRecord
    intake: Intake
    turn: int
    clock: float
    begins: bool
    """True: there is no such session yet."""
    change: int
    persists: bool
    """False for a session that is kept off the disk."""


class TurnPlanner:
    """Plans turns. Changes nothing."""

    def __init__(self, sessions: SessionStore, planner: Planner) -> None:
        self._sessions = sessions
        self._planner = planner
        self._kept: dict[RequestKey, PlannedTurn] = {}

    async def plan(self, work: Work, record: ModelRecord) -> PlannedTurn:
        """The turn as of now: the one that was kept, if nothing changed since.

        Raises `HotseatError` for input that cannot follow what the session holds.
        """
        kept = self._kept.pop(work.key, None)
        if kept is None or not self._holds(kept, work, record):
            return await self._plan(work, record)
        return replace(kept, clock=clock_of(None)) if kept.begins else kept

    def keep(self, work: Work, turn: PlannedTurn) -> None:
        """The turn is planned and will start later, or soon."""
        self._kept[work.key] = turn
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def persists(self, record: ModelRecord, session: str | None) -> bool:
        """False for a session that is kept off the disk."""
        return session is None or not self._sessions.is_volatile(record.name, session)

    def _holds(self, kept: PlannedTurn, work: Work, record: ModelRecord) -> bool:
        filled = self._fill(work.request, record, begins=kept.begins)
        is_same = kept.request == filled and kept.record == record
        return is_same and kept.change == self._change(record, work.request.session)

    def _change(self, record: ModelRecord, session: str | None) -> int:
        return 0 if session is None else self._sessions.change_of(record.name, session)

    async def _plan(self, work: Work, record: ModelRecord) -> PlannedTurn:
        session = work.request.session
        change = self._change(record, session)
        row = None if session is None else await self._sessions.load(record.name, session)
        stored = as_stored(row, record)
        request = self._fill(work.request, record, begins=stored is None)
        return PlannedTurn(
            request=request,
            record=record,
            intake=plan_turn(request, record, stored),
            turn=(stored.turn if stored else 0) + 1,
            clock=clock_of(row),
            begins=stored is None,
            change=change,
            persists=self.persists(record, session),
        )

    def _fill(self, request: Generate, record: ModelRecord, *, begins: bool) -> Generate:
        """The request with the model's defaults where it says nothing itself.

        Template arguments are fixed by the first turn of a session: later turns keep those.
        """
        chosen = self._planner.settings.model(record.name)
        sampling = chosen.sampling.fill(request.sampling, record.sampling, request.protocol)
        request = replace(request, sampling=sampling)
        is_chat = request.messages is not None or isinstance(request.append, tuple)
        if begins and is_chat and request.template_args is None and chosen.template_args:
            return replace(request, template_args=dict(chosen.template_args))
        return request
