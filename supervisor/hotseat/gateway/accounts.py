"""What is noted of a request while it is under way. Must not know how figures are kept or shown."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotseat.gateway.callers import Caller, Turnstile, caller_of
from hotseat.gateway.serving import CLOSED, Telling
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, Done, Progress

SCOPE_KEY: Final = "hotseat.account"
_DIALECTS: Final = (
    ("/v1/chat/", "chat"),
    ("/v1/completions", "completions"),
    ("/v1/responses", "responses"),
    ("/v1/messages", "messages"),
    ("/v1/embeddings", "embeddings"),
    ("/api/", "ollama"),
    ("/admin/", "admin"),
)
_GENERATING: Final = frozenset(
    {
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"),
        *("/api/chat", "/api/generate"),
    }
)
PRODUCTS: Final = {
    "claude-cli": "claude-code",
    "codex_cli_rs": "codex",
    "codex_exec": "codex",
    "codex-tui": "codex",
    "opencode": "opencode",
    "pi": "pi",
    "continue": "continue",
    "aider": "aider",
    "litellm": "litellm",
    "open-webui": "open-webui",
    "ollama": "ollama",
    "ollama-python": "ollama",
    "openai": "openai",
    "asyncopenai": "openai",
    "anthropic": "anthropic",
    "asyncanthropic": "anthropic",
    "curl": "curl",
}
"""By what a User-Agent begins with, small letters; everybody else is `other`."""
OTHER: Final = "other"
_OUTCOMES: Final = ((400, "ok"), (429, "invalid"), (430, "limited"), (CLOSED, "invalid"))


class Keeps(Protocol):
    """Whoever adds up what accounts say."""

    def began(self) -> None:
        """A stream is open."""

    def closed(self) -> None:
        """It is not any more."""

    def spoke(self, dialect: str, ttft_s: float) -> None:
        """First output."""

    def produced(self, done: Done) -> None:
        """A good end."""

    def over(self, dialect: str, agent: str, model: str, outcome: str) -> None:
        """A request is over."""


class Account:
    """Of one request."""

    def __init__(
        self, keeps: Keeps, turnstile: Turnstile, caller: Caller, dialect: str, agent: str
    ) -> None:
        self.model = OTHER
        self._keeps = keeps
        self._caller = caller
        self._dialect = dialect
        self._agent = agent
        self._outcome = ""
        self._began_at = time.monotonic()
        self._turnstile = turnstile
        self._is_waiting = False
        self._is_stream = False

    def wait(self) -> None:
        """It will have output. Raises HotseatError (queue_full) if its key has too many such."""
        self._turnstile.enter(self._caller)
        self._is_waiting = True

    def stream(self, telling: Telling) -> "Counted":
        """Its output goes out as it comes."""
        self._is_stream = True
        self._keeps.began()
        return Counted(telling, self)

    def heard(self, ended: Callable[[Done], None]) -> Callable[[Done], None]:
        """`ended`, noted before."""

        def both(done: Done) -> None:
            self.ended(done)
            ended(done)

        return both

    def spoke(self) -> None:
        """Output came; only the first counts."""
        if self._is_waiting:
            self._stop_waiting()
            self._keeps.spoke(self._dialect, time.monotonic() - self._began_at)

    def ended(self, done: Done) -> None:
        """A good end."""
        self.model, self._outcome = done.model, "ok"
        self._keeps.produced(done)

    def failed(self, error: HotseatError) -> None:
        """A bad end after its status was sent."""
        self._outcome = outcome_of(error.spec.http_status)

    def close(self, status: int | None) -> None:
        """Nothing follows; `status` is that of its answer, None where nobody was left to read."""
        self._stop_waiting()
        if self._is_stream:
            self._keeps.closed()
            outcome = self._outcome or "gone"
        else:
            outcome = outcome_of(CLOSED if status is None else status)
        self._keeps.over(self._dialect, self._agent, self.model, outcome)

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._turnstile.leave(self._caller)


class Counted:
    """A telling whose first output and whose bad end are noted."""

    def __init__(self, telling: Telling, account: Account) -> None:
        self._telling = telling
        self._account = account

    def begin(self) -> bytes:
        """As the telling does."""
        return self._telling.begin()

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """As the telling does."""
        return self._telling.alive(progress, silent_s)

    def take(self, chunk: Chunk) -> bytes:
        """As the telling does; the first is noted."""
        self._account.spoke()
        return self._telling.take(chunk)

    def end(self, done: Done) -> bytes:
        """As the telling does."""
        return self._telling.end(done)

    def fail(self, error: HotseatError) -> bytes:
        """As the telling does."""
        self._account.failed(error)
        return self._telling.fail(error)


class Accounting:
    """An ASGI application that keeps an account of each request to the one `inside`."""

    def __init__(self, inside: ASGIApp, keeps: Keeps) -> None:
        self._inside = inside
        self._keeps = keeps
        self._turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        dialect = dialect_of(scope["path"]) if scope["type"] == "http" else ""
        if not dialect:
            await self._inside(scope, receive, send)
            return
        status: int | None = None

        async def put(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        product = product_of(_user_agent(scope))
        account = Account(self._keeps, self._turnstile, caller_of(scope), dialect, product)
        scope[SCOPE_KEY] = account
        try:
            await self._inside(scope, receive, put)
        finally:
            account.close(status)


def account_of(scope: Scope) -> Account:
    """The account of a request to one of the dialects."""
    account = scope[SCOPE_KEY]
    assert isinstance(account, Account)  # noqa: S101 - their paths are in the table
    return account


def wait_if_it_generates(scope: Scope) -> None:
    """Raises HotseatError (queue_full) for a request beyond what its key may have waiting."""
    if scope["method"] == "POST" and scope["path"] in _GENERATING:
        account_of(scope).wait()


def dialect_of(path: str) -> str:
    """The dialect of a path, empty for those that are no request for anything."""
    return next((dialect for begin, dialect in _DIALECTS if path.startswith(begin)), "")


def product_of(user_agent: str) -> str:
    """Which of the known agents asks; `other` for all the rest, so that they are few."""
    name = user_agent.partition(" ")[0].partition("/")[0].lower()
    return PRODUCTS.get(name, OTHER)


def outcome_of(status: int) -> str:
    """`ok`, `invalid`, `limited`, `gone` or `failed`."""
    if status == CLOSED:
        return "gone"
    return next((name for below, name in _OUTCOMES if status < below), "failed")


def _user_agent(scope: Scope) -> str:
    found = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    return str(found.decode("latin-1"))
