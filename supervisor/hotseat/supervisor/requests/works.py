"""Requests under way: one `Work` per accepted generate, and the table of them. No I/O.

The table is the only owner of the state of a request; a work ends exactly once.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from hotseat.protocol.ids import ModelName, RequestId, RequestKey, SessionName
from hotseat.protocol.link_reports import Emitted, Finished, Started
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.parts import Collected, collect_parts
from hotseat.protocol.replies import Cause, Chunk, Done, ErrorBody
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.ports.client_port import Peer
from hotseat.supervisor.requests.rules.blame import Suspicion, after_progress, resume_alone
from hotseat.supervisor.requests.rules.output_log import OutputLog
from hotseat.supervisor.requests.rules.streams import Emission, OutStream
from hotseat.supervisor.scheduling.forecaster import Forecaster
from hotseat.supervisor.scheduling.waiting import Waiting

FINISHED_KEPT: Final = 256
"""Ended works kept for readers that still drain, oldest dropped first."""


class WorkState(StrEnum):
    """Where a request is."""

    ACCEPTING = "accepting"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class Reader:
    """A connection that gets the output of a work under `request_id`."""

    def __init__(self, peer: Peer, request_id: RequestId, stream: OutStream) -> None:
        self.peer = peer
        self.request_id = request_id
        self.stream = stream
        self.sent_at = 0.0
        self.is_accepted = False
        self.held: Chunk | None = None
        """Next to go: the connection took nothing more when it was tried."""


class Work:
    """One generate from accept to its end. Times are monotonic seconds, `created_at` is Unix."""

    def __init__(
        self, key: RequestKey, request_id: RequestId, client: str, request: Generate, order: int
    ) -> None:
        self.key = key
        self.request_id = request_id
        self.client = client
        self.request = request
        self.order = order
        self.state = WorkState.ACCEPTING
        self.record: ModelRecord | None = None
        self.seed = 0
        self.created_at = 0.0
        self.accepted_at = 0.0
        self.persist = request.persist
        """False also for a turn of a session or a model that is kept off the disk."""
        self.slow_speed: float | None = None
        """Tokens a second of a model that the disk holds below 1; None of any other."""
        self.ignored: tuple[str, ...] = ()
        """Fields that were sent and are none of a request."""
        self.is_recorded = False
        """Its accept record is on disk."""
        self.readers: list[Reader] = []
        self.emissions = OutputLog()
        self.completion_tokens = 0
        self.text_length = 0
        self.intake: Intake | None = None
        self.turn = 0
        self.clock = 0.0
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.sent_at = 0.0
        self.first_token_at: float | None = None
        self.swap_s = 0.0
        self.cancel_asked = False
        self.suspicion = Suspicion()
        self.reached_tokens = 0
        """Position in prompt and completion beyond which nothing was computed yet."""
        self.blocks_lost = 0
        """Blocks of its context that could not be read, without that it got further in between."""
        self.held_as: str | None = None
        """Session name under which a suspended request keeps its KV."""
        self.paused_at: float | None = None
        self.paused_s = 0.0
        self.unread_since: float | None = None
        self.end: Done | ErrorBody | None = None
        self.phase = "queued"
        self.prompt_done = 0
        self.prompt_tokens: int | None = None
        """Of the prompt, once somebody counted them."""
        self.known_tokens = 0
        """Of the prompt, as far as anybody knew when it was accepted."""

    @property
    def model(self) -> str:
        """Name of the model, resolved if the request said `seated`."""
        return self.record.name if self.record is not None else self.request.model

    @property
    def session_key(self) -> tuple[str, str] | None:
        """(model, session) if it belongs to one."""
        name = self.request.session
        return None if name is None else (self.model, name)

    @property
    def deadline(self) -> float | None:
        """When its end is of no use any more, on the clock of `accepted_at`."""
        limit_s = self.request.deadline_s
        return None if limit_s is None else self.accepted_at + limit_s

    @property
    def as_waiting(self) -> Waiting:
        """As the scheduler sees it."""
        return Waiting(
            key=self.key,
            model=self.model,
            order=self.order,
            never_swaps=self.request.swap != "auto",
            since=self.accepted_at,
            priority=self.request.priority or 0,
            deadline=self.deadline,
            is_slow=self.slow_speed is not None and self.persist,
        )

    @property
    def cause(self) -> Cause:
        """For swaps that this request makes happen."""
        request = self.request
        return Cause(
            client=self.client,
            request_id=self.request_id,
            model_asked=request.model,
            agent=request.agent,
        )

    @property
    def is_suspended(self) -> bool:
        """True while it waits for its model to go on, with what it computed kept."""
        return self.state is WorkState.WAITING and self.held_as is not None

    @property
    def outlives_daemon(self) -> bool:
        """True when the next daemon can go on with it: suspended, or begun and on record."""
        return self.held_as is not None or (self.started is not None and self.is_recorded)

    @property
    def resting_phase(self) -> str:
        """What it does while the seat does nothing for it."""
        return "suspended" if self.is_suspended else "queued"

    def wait_again(self, phase: str, now: float) -> None:
        """Out of the worker, suspended or lost with it: goes on where it was when seated again."""
        self.state = WorkState.WAITING
        self.phase = phase
        if self.paused_at is None:
            self.paused_at = now

    def resume(self, now: float) -> None:
        """Back on a worker."""
        if self.paused_at is not None:
            self.paused_s += now - self.paused_at
            self.paused_at = None

    def reach(self, tokens: int) -> bool:
        """Notes how far it is; True if it never was that far."""
        if tokens <= self.reached_tokens:
            return False
        self.reached_tokens = tokens
        self.blocks_lost = 0
        self.suspicion = after_progress(self.suspicion)
        return True

    def add_emission(self, output: Emitted) -> Emission:
        """Counts output that just came from the worker."""
        emission = Emission(
            offset=self.completion_tokens,
            text_offset=self.text_length,
            tokens=output.tokens,
            text=output.text,
            logprobs=output.logprobs,
            parts=output.parts,
            text_lengths=output.text_lengths,
        )
        self.note(emission)
        return emission

    @property
    def said(self) -> Collected:
        """All output so far by its kinds."""
        return collect_parts(part for entry in self.emissions for part in entry.all_parts)

    def note(self, emission: Emission) -> None:
        """Appends output to what readers can replay."""
        self.emissions.append(emission)
        self.completion_tokens += len(emission.tokens)
        self.text_length += len(emission.text)


PROMPT_PHASES: Final = frozenset({"starting", "restoring", "prefill"})


class Works:
    """The table, with the questions the rest of the daemon asks of it."""

    def __init__(self) -> None:
        self._works: dict[RequestKey, Work] = {}
        self._ended: deque[RequestKey] = deque()
        self._just_ended: deque[Work] = deque(maxlen=FINISHED_KEPT)
        self.changed = asyncio.Event()
        """Set when the dispatcher has to look again, by whoever changed what it looks at."""
        self.ended_count = 0
        self.forecaster = Forecaster(
            lambda: [work.as_waiting for work in self.in_state(WorkState.WAITING)]
        )
        self._orders = 0

    def __iter__(self) -> Iterator[Work]:
        return iter(tuple(self._works.values()))

    def create(
        self, key: RequestKey, request_id: RequestId, client: str, request: Generate
    ) -> Work:
        """A new work at the end of the order of arrival."""
        self._orders += 1
        work = self._works[key] = Work(key, request_id, client, request, self._orders)
        return work

    def get(self, key: RequestKey) -> Work | None:
        """The work of that key, ended ones included while they are kept."""
        return self._works.get(key)

    def forget(self, work: Work) -> None:
        """Takes a work out that was never accepted."""
        self._works.pop(work.key, None)

    def mark_ended(self, work: Work) -> None:
        """The end was sent or is on its way to slow readers."""
        work.state = WorkState.ENDED
        self.ended_count += 1
        self.changed.set()
        self._ended.append(work.key)
        self._just_ended.append(work)
        while len(self._ended) > FINISHED_KEPT:
            self._works.pop(self._ended.popleft(), None)

    def take_ended(self) -> list[Work]:
        """Works that ended since the last call."""
        ended = list(self._just_ended)
        self._just_ended.clear()
        return ended

    def in_state(self, *states: WorkState) -> list[Work]:
        """Works in any of these states, in order of arrival."""
        return sorted(
            (work for work in self._works.values() if work.state in states),
            key=lambda work: work.order,
        )

    @property
    def running(self) -> int:
        """How many are on the worker or on their way to it."""
        return len(self.in_state(WorkState.STARTING, WorkState.RUNNING))

    @property
    def has_prompt_running(self) -> bool:
        """True while the worker has a work that has not come to a token since it got it."""
        running = self.in_state(WorkState.STARTING, WorkState.RUNNING)
        return any(work.phase in PROMPT_PHASES for work in running)

    @property
    def running_since(self) -> float | None:
        """When the longest running work was sent to a worker first; None when none runs."""
        running = self.in_state(WorkState.STARTING, WorkState.RUNNING)
        return min((work.sent_at for work in running if work.sent_at), default=None)

    @property
    def sessions_in_use(self) -> frozenset[tuple[ModelName, SessionName]]:
        """Sessions with a work that has not ended."""
        return frozenset(
            (ModelName(work.model), SessionName(work.request.session))
            for work in self
            if work.request.session is not None and work.state is not WorkState.ENDED
        )

    @property
    def are_under_way(self) -> bool:
        """True while any work has not ended."""
        return any(work.state is not WorkState.ENDED for work in self._works.values())

    def not_startable(self, startable: list[Waiting]) -> list[Waiting]:
        """Works that have not ended and are none of these; those that end already are left out."""
        keys = {entry.key for entry in startable}
        alive = self.in_state(WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING)
        return [work.as_waiting for work in alive if work.key not in keys and not work.cancel_asked]

    def holder(self, session: tuple[str, str], other_than: Work) -> Work | None:
        """The earliest other work of a session that has not ended.

        Of works that are being accepted only earlier ones count: the first asker wins.
        """
        alive = self.in_state(*(state for state in WorkState if state is not WorkState.ENDED))
        for work in alive:
            is_later = work.state is WorkState.ACCEPTING and work.order > other_than.order
            if work is not other_than and not is_later and work.session_key == session:
                return work
        return None

    def startable(self) -> list[Waiting]:
        """Waiting requests for the scheduler: of a session only the first, none while it runs.

        After a worker's death those that were on it come one at a time.
        """
        running = self.in_state(WorkState.STARTING, WorkState.RUNNING)
        busy = {work.session_key for work in running if work.session_key is not None}
        waiting = []
        for work in self.in_state(WorkState.WAITING):
            if work.session_key is not None:
                if work.session_key in busy:
                    continue
                busy.add(work.session_key)
            waiting.append(work.as_waiting)
        suspects = {work.key for work in self if work.suspicion.is_suspect}
        return resume_alone(waiting, [work.as_waiting for work in running], suspects)
