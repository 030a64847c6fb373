"""The paths and what answers them. Must not know sockets or who may come in."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.gateway.asked import Asked
from hotseat.gateway.chat.answer import ChatStream, Frame, whole_answer
from hotseat.gateway.chat.body import read_chat, read_text
from hotseat.gateway.errors import anthropic_error, headers_of, openai_error, status_of
from hotseat.gateway.messages.answer import MessagesStream, whole_message
from hotseat.gateway.messages.body import read_count, read_messages
from hotseat.gateway.models import find_model, model_list, model_object
from hotseat.gateway.serving import (
    CLOSED,
    ClientGoneError,
    Streamed,
    Telling,
    Whole,
    accepted,
    reached,
    unless_gone,
    whole,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ModelView

SESSION_HEADER: Final = "x-hotseat-session"
LEFT_OUT_HEADER: Final = "x-hotseat-left-out"
_KNOWN_S: Final = 2.0
"""How long what a model can do is taken from the last look."""
_LONGEST_LABEL: Final = 128
Handler = Callable[[Request], Awaitable[Response]]


class Paths:
    """Answers requests with one client of the daemon."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._models: list[ModelView] = []
        self._looked_at = float("-inf")

    def routes(self) -> list[Route]:
        """Every path."""
        return [
            Route("/v1/chat/completions", self._openai(self.chat), methods=["POST"]),
            Route("/v1/completions", self._openai(self.completions), methods=["POST"]),
            Route("/v1/messages", self._anthropic(self.messages), methods=["POST"]),
            Route("/v1/messages/count_tokens", self._anthropic(self.count), methods=["POST"]),
            Route("/v1/models", self._openai(self.list_models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._openai(self.show_model), methods=["GET"]),
            Route("/health/live", self.live, methods=["GET"]),
            Route("/health/ready", self._openai(self.ready), methods=["GET"]),
        ]

    # --- dialects -------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        return await self._openai_answer(request, read_chat(await request.body()), is_chat=True)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        return await self._openai_answer(request, read_text(await request.body()), is_chat=False)

    async def _openai_answer(self, request: Request, asked: Asked, *, is_chat: bool) -> Response:
        prefix = "chatcmpl" if is_chat else "cmpl"
        frame = Frame(
            answer_id=f"{prefix}-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=asked.model,
            is_chat=is_chat,
        )

        def at_once(found: Whole) -> dict[str, Any]:
            return whole_answer(frame, found.done, found.logprobs)

        telling = ChatStream(frame, wants_usage=asked.wants_usage)
        return await self._answer(request, asked, telling, at_once)

    async def messages(self, request: Request) -> Response:
        """POST /v1/messages."""
        asked = read_messages(await request.body())
        message_id = f"msg_{secrets.token_hex(12)}"
        view = await self._model(asked.model)
        thinks = view.template is not None and view.template.thinking and asked.thinks is not False
        telling = MessagesStream(message_id=message_id, model=asked.model, thinks=thinks)

        def at_once(found: Whole) -> dict[str, Any]:
            return whole_message(message_id, asked.model, found.done)

        return await self._answer(request, asked, telling, at_once)

    async def count(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens: changes nothing, seats nothing."""
        asked = read_count(await request.body())
        view = await self._model(asked.model)
        found = await self._client.count(
            view.name,
            messages=asked.messages,
            tools=asked.tools or None,
            template_args=asked.template_args(_arguments(view)) or None,
        )
        return answer({"input_tokens": found.tokens})

    async def _answer(
        self,
        request: Request,
        asked: Asked,
        telling: Telling,
        at_once: Callable[[Whole], dict[str, Any]],
    ) -> Response:
        view = await self._model(asked.model)
        options = asked.options(_arguments(view))
        if session := request.headers.get(SESSION_HEADER):
            options["session"] = session
        stream = self._client.generate(asked.model, agent=label_of(request), **options)
        headers = {LEFT_OUT_HEADER: ", ".join(asked.left_out)} if asked.left_out else {}
        try:
            await unless_gone(request, accepted(stream))
            if asked.is_streamed:
                return Streamed(stream, telling, headers | _identity())
            found = await unless_gone(request, whole(stream))
        except BaseException:
            await stream.leave()
            raise
        return answer(at_once(found), headers=headers)

    # --- reading --------------------------------------------------------------------------------

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        del request
        return answer(model_list(await self._known()))

    async def show_model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        return answer(model_object(find_model(await self._known(), request.path_params["name"])))

    async def live(self, request: Request) -> Response:
        """GET /health/live: the loop turns."""
        del request
        return answer({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready: a token can be produced."""
        del request
        views = await self._known(fresh=True)
        if not any(view.state in ("seated", "ready") for view in views):
            raise HotseatError("not_seated", "no registered model can be used; `hotseat models`")
        return answer({"status": "ready"})

    async def _known(self, *, fresh: bool = False) -> list[ModelView]:
        now = time.monotonic()
        client = await reached(self._client)
        if fresh or now - self._looked_at > _KNOWN_S:
            self._models = await client.models()
            self._looked_at = now
        return self._models

    async def _model(self, name: str) -> ModelView:
        """What is known of a model; of an alias, which only the daemon knows, nothing."""
        views = await self._known()
        with contextlib.suppress(HotseatError):
            return find_model(views, name)
        return ModelView(name=name, state="ready")

    # --- errors ---------------------------------------------------------------------------------

    def _openai(self, handler: Handler) -> Handler:
        return _guarded(handler, lambda error, _request_id: openai_error(error))

    def _anthropic(self, handler: Handler) -> Handler:
        return _guarded(handler, anthropic_error)


def _guarded(handler: Handler, told: Callable[[HotseatError, str], dict[str, Any]]) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except HotseatError as error:
            headers = headers_of(error) | _identity()
            body = told(error, headers["x-request-id"])
            return answer(body, status=status_of(error), headers=headers)
        except ClientGoneError:
            return Response(status_code=CLOSED)

    return guarded


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with an id of its own."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers=_identity() | (headers or {}),
    )


def _identity() -> dict[str, str]:
    return {"x-request-id": f"req_{secrets.token_hex(12)}"}


def _arguments(view: ModelView) -> frozenset[str]:
    return frozenset(view.template.arguments if view.template is not None else ())


def label_of(request: Request) -> str:
    """The agent that asks: its product, and the id it gives itself if it gives one.

    Such an id is no conversation: titles, summaries and helpers run under the same one.
    """
    product = request.headers.get("user-agent", "").partition(" ")[0].partition("/")[0]
    own = next((found for name in _OWN_IDS if (found := request.headers.get(name))), "")
    return f"{product or 'http'}/{own}"[:_LONGEST_LABEL] if own else product[:_LONGEST_LABEL]


_OWN_IDS: Final = ("x-claude-code-session-id", "session-id", "thread-id", "x-session-id")


def make_app(client: AsyncClient) -> Starlette:
    """The application without its door."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await client.close()

    return Starlette(routes=Paths(client).routes(), lifespan=lifespan)
