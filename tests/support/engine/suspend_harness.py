"""Requests that are suspended, checkpointed, killed and resumed, as a supervisor would do it."""

from typing import Literal

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import Resume, Start, Suspend, TokensInput
from hotseat.protocol.link_reports import Broken, Finished, Started, Suspended
from hotseat.protocol.messages import Sampling
from hotseat.protocol.tokens import pack_tokens, unpack_tokens
from tests.support.engine.engine_harness import FakeSupervisor, Outcome

Fate = Literal["live", "checkpointed", "killed"]
HELD = "held:1"

SAMPLED = Sampling(
    temperature=0.8,
    top_p=0.95,
    repetition_penalty=1.1,
    presence_penalty=0.3,
    frequency_penalty=0.2,
)
GREEDY = Sampling()


class Run:
    """One request over all its suspensions: what a client sees of it."""

    def __init__(self, supervisor: FakeSupervisor, prompt: list[int], session=None, **options):
        self.supervisor = supervisor
        self.session = session
        options.setdefault("sampling", GREEDY)
        options.setdefault("seed", 11)
        options.setdefault("max_tokens", 40)
        context = supervisor.contexts.get(session, []) if session else []
        self.first = Start(
            request=RequestKey("?"),
            session=session,
            context=pack_tokens(context),
            hint=supervisor.hints.get(session, b"") if session else b"",
            input=options.pop("input", TokensInput(tokens=pack_tokens(prompt))),
            clock=0.0,
            **options,
        )
        self.parts: list[Outcome] = []
        self.prompt = b""
        self.restored = 0
        self.request = self._start(None)

    def _start(self, resume: Resume | None) -> RequestKey:
        import msgspec

        self.supervisor.asked += 1
        self.request = RequestKey(f"t:{self.supervisor.asked}")
        start = msgspec.structs.replace(self.first, request=self.request, resume=resume)
        self.supervisor.engine.handle(start)
        return self.request

    @property
    def now(self) -> Outcome:
        return self.supervisor.outcome(self.request)

    @property
    def tokens(self) -> list[int]:
        return [token for part in [*self.parts, self.now] for token in part.tokens]

    @property
    def text(self) -> str:
        return "".join(part.text for part in [*self.parts, self.now])

    @property
    def logprobs(self) -> list:
        parts = [*self.parts, self.now]
        return [one for part in parts for m in part.emitted for one in m.logprobs]

    def until_tokens(self, count: int) -> bool:
        """Steps until so many tokens came; False if the request ended before."""
        while len(self.tokens) < count and self.now.finished is None:
            self.supervisor.advance()
            assert not any(isinstance(message, Broken) for message in self.now.messages)
        return self.now.finished is None

    def suspend(self, hold_as: str = HELD) -> Suspended | Finished:
        self.supervisor.engine.handle(Suspend(request=self.request, hold_as=hold_as))
        return self.supervisor.until((Suspended, Finished), self.request)

    def resume(self, held_as: str | None = HELD) -> RequestKey:
        """Starts it again from the tokens that came."""
        now = self.now
        if now.started is not None and not self.prompt:
            self.prompt = now.started.prompt
            self.restored = now.started.restored_tokens
        emitted = pack_tokens(self.tokens)
        self.parts.append(now)
        if not self.prompt:
            return self._start(None)
        resume = Resume(
            prompt=self.prompt, emitted=emitted, held_as=held_as, restored_tokens=self.restored
        )
        return self._start(resume)

    def interrupt(self, fate: Fate) -> None:
        """Leaves the seat in one of three ways and comes back."""
        if fate == "killed":
            self.supervisor.pump()
            self.supervisor.seat()
            self.resume(None)
            return
        if not isinstance(self.suspend(), Suspended):
            return
        if fate == "checkpointed":
            assert self.supervisor.checkpoint().failed == ()
            self.supervisor.seat()
        self.resume()

    def finish(self) -> Finished:
        finished = self.supervisor.until(Finished, self.request)
        if self.session is not None:
            self.supervisor.contexts[self.session] = unpack_tokens(finished.context)
            self.supervisor.hints[self.session] = finished.hint
        return finished

    def started(self) -> Started:
        return self.supervisor.until(Started, self.request)
