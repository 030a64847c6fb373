"""The paths and what answers them. Must not know sockets or who may come in."""

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.gateway.accounts import account_of
from hotseat.gateway.admin import Admin
from hotseat.gateway.asked import Asked
from hotseat.gateway.callers import caller_of
from hotseat.gateway.chat.answer import ChatStream, Frame, whole_answer
from hotseat.gateway.chat.body import read_chat, read_text
from hotseat.gateway.conversations.comparing import Compared, Comparisons, shape_of
from hotseat.gateway.conversations.keeping import DAYS, tidy_for_ever
from hotseat.gateway.conversations.noting import Noted
from hotseat.gateway.conversations.turns import Call, Conversations, Opened, head_of
from hotseat.gateway.conversations.value import Head
from hotseat.gateway.embeddings import Embeddings
from hotseat.gateway.holding import Begun, Holding
from hotseat.gateway.messages.answer import MessagesStream, whole_message
from hotseat.gateway.messages.body import read_count, read_messages
from hotseat.gateway.metrics import Metrics
from hotseat.gateway.models import find_model, model_list, model_object
from hotseat.gateway.ollama.answer import told_error
from hotseat.gateway.ollama.paths import Ollama
from hotseat.gateway.pages import Pages, not_found, not_that_method
from hotseat.gateway.parts import PartWatch
from hotseat.gateway.replying import (
    Handler,
    answer,
    guarded,
    guarded_anthropic,
    guarded_openai,
    identity,
    label_of,
    left_out_header,
    owner_of,
    product_of,
    session_of,
)
from hotseat.gateway.responses.paths import Responses
from hotseat.gateway.serving import Streamed, Telling, Whole, reached
from hotseat.gateway.settings import AgentPolicy, GatewaySettings
from hotseat.gateway.sse import MEDIA_TYPE
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Done
from hotseat.protocol.views import ModelView

_log = logging.getLogger("hotseat.gateway")
_KNOWN_S: Final = 2.0
"""How long what a model can do is taken from the last look."""


class Paths:
    """Answers requests with one client of the daemon."""

    def __init__(self, client: AsyncClient, home: Path, settings: GatewaySettings) -> None:
        self._client = client
        self._conversations = Conversations(client)
        self._comparisons = Comparisons()
        self._holding = Holding(settings.hold_s)
        self._parts = PartWatch(refuses=settings.parts == "refuse")
        self._agents = settings.agents
        self._shows_phases = settings.progress == "reasoning"
        self._responses = Responses(
            client,
            self._conversations,
            self._called,
            self._holding,
            self._comparisons,
            home,
            shows_phases=self._shows_phases,
        )
        self._ollama = Ollama(client, self._visible, self._answer)
        self._models: list[ModelView] = []
        self._looked_at = float("-inf")

    def routes(self) -> list[Route]:
        """Every path."""
        return [
            Route("/v1/chat/completions", guarded_openai(self.chat), methods=["POST"]),
            Route("/v1/completions", guarded_openai(self.completions), methods=["POST"]),
            Route("/v1/messages", guarded_anthropic(self.messages), methods=["POST"]),
            Route("/v1/messages/count_tokens", guarded_anthropic(self.count), methods=["POST"]),
            *self._response_routes(),
            *self._ollama.routes(_sentence),
            Route("/v1/models", guarded_openai(self.list_models), methods=["GET"]),
            Route("/v1/models/{name:path}", guarded_openai(self.show_model), methods=["GET"]),
            Route("/health/live", self.live, methods=["GET"]),
            Route("/health/ready", guarded_openai(self.ready), methods=["GET"]),
        ]

    def _response_routes(self) -> list[Route]:
        kept = "/v1/responses/{response_id}"
        found = self._responses
        return [
            Route("/v1/responses", guarded_openai(found.create), methods=["POST"]),
            Route("/v1/responses/input_tokens", guarded_openai(found.count), methods=["POST"]),
            Route(kept, guarded_openai(found.retrieve), methods=["GET"]),
            Route(kept, guarded_openai(found.delete), methods=["DELETE"]),
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

        telling = ChatStream(frame, wants_usage=asked.wants_usage, shows_phases=self._shows_phases)
        return await self._answer(request, asked, telling, at_once)

    async def messages(self, request: Request) -> Response:
        """POST /v1/messages."""
        asked = read_messages(await request.body())
        message_id = f"msg_{secrets.token_hex(12)}"
        view = await self._model(request, asked.model)
        thinks = view.template is not None and view.template.thinking and asked.thinks is not False
        compared, kept = self._compare(request, asked, view, message_id)
        telling = MessagesStream(
            message_id=message_id,
            model=asked.model,
            thinks=thinks,
            shows_phases=self._shows_phases,
            compared=compared,
        )

        def at_once(found: Whole) -> dict[str, Any]:
            kept(found.done)
            return whole_message(message_id, asked.model, found.done, compared)

        return await self._answer(request, asked, Noted(telling, kept), at_once)

    def _compare(
        self, request: Request, asked: Asked, view: ModelView, answer_id: str
    ) -> tuple[Compared | None, Callable[[Done], None]]:
        """How it begins beside a former one, and what keeps it for those to come; if asked for."""
        if asked.compared_to is None:
            return None, _forget
        owner, messages = owner_of(request), asked.messages or ()
        arguments = asked.template_args(_arguments(view))
        head = Head(owner=owner, model=view.name, tools=asked.tools, template_args=arguments)
        compared = self._comparisons.compare(head, asked.compared_to, messages)
        shape = shape_of(head, messages)
        return compared, functools.partial(self._comparisons.keep, owner, answer_id, shape)

    async def count(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens: changes nothing, seats nothing."""
        asked = read_count(await request.body())
        call = await self._called(request, asked)
        head = head_of(call, asked)
        found = await self._client.count(
            call.registered,
            tools=asked.tools or None,
            template_args=call.options.get("template_args"),
            **await self._conversations.counted(head, asked.messages or ()),
        )
        return answer({"input_tokens": found.tokens})

    async def _answer(
        self,
        request: Request,
        asked: Asked,
        telling: Telling,
        at_once: Callable[[Whole], dict[str, Any]],
        media_type: str = MEDIA_TYPE,
    ) -> Response:
        account = account_of(request.scope)
        call = await self._called(request, asked)
        headers = left_out_header(asked.left_out)
        if asked.is_streamed:
            opened, ended = await self._open(call, asked)
            told = Noted(account.stream(telling), account.heard(ended))
            return Streamed(opened.stream, told, headers | identity(), media_type)

        async def begin() -> Begun:
            opened, ended = await self._open(call, asked)
            return Begun(opened.stream, functools.partial(_ended, account.heard(ended), at_once))

        return answer(await self._holding.answer(request, begin), headers=headers)

    async def _open(self, call: Call, asked: Asked) -> tuple[Opened, Callable[[Done], None]]:
        """The work as a turn of its conversation, and what wants to hear of its end."""
        session = session_of(call.http)
        messages = asked.messages
        if session is None and messages is not None:
            head = head_of(call, asked)
            opened = await self._conversations.recognise(call, head, messages)
            return opened, functools.partial(self._conversations.note, head, messages)
        name = "prompt" if messages is None else "messages"
        given = {name: asked.prompt if messages is None else messages}
        if session is not None:
            given["session"] = session
        return await self._conversations.open(call, **given), _forget

    async def _called(self, request: Request, asked: Asked) -> Call:
        """A request with all but its input."""
        caller, account = caller_of(request.scope), account_of(request.scope)
        label = label_of(request)
        self._see_parts(label.partition("/")[0], asked)
        view = await self._model(request, asked.model)
        if any(known.name == view.name for known in self._models):
            account.model = view.name
        policy = self._agents.get(product_of(request).lower(), AgentPolicy())
        options = asked.options(_arguments(view)) | policy.options() | caller.options()
        for name in ("messages", "prompt"):
            options.pop(name, None)
        options["agent"] = label
        model = asked.model if caller.is_owner else view.name
        return Call(http=request, model=model, registered=view.name, options=options)

    def _see_parts(self, product: str, asked: Asked) -> None:
        found = self._parts.see(product, asked)
        if found is not None:
            _log.warning(
                "part.left_out agent=%s path=%s kind=%r: models take text only, so a line stands "
                'in its place; parts = "refuse" in [http] makes it an error',
                found.agent,
                found.path,
                found.kind,
            )

    # --- reading --------------------------------------------------------------------------------

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        return answer(model_list(await self._visible(request)))

    async def show_model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        name = request.path_params["name"]
        found = model_object(find_model(await self._visible(request), name))
        return answer({**found, "id": name, "display_name": name})

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

    async def _visible(self, request: Request) -> list[ModelView]:
        return caller_of(request.scope).visible(await self._known())

    async def _model(self, request: Request, name: str) -> ModelView:
        """What is known of a model; of an alias, which only the daemon knows, nothing.

        Raises HotseatError (unknown_model) for a model that this key may not use.
        """
        views = await self._visible(request)
        try:
            return find_model(views, name)
        except HotseatError:
            if not caller_of(request.scope).may_use(name):
                raise
        return ModelView(name=name, state="ready")


def _ended(
    ended: Callable[[Done], None], at_once: Callable[[Whole], dict[str, Any]], found: Whole
) -> dict[str, Any]:
    ended(found.done)
    return at_once(found)


def _forget(_done: Done) -> None:
    """Nothing hangs on its end."""


def _sentence(handler: Handler) -> Handler:
    return guarded(handler, lambda error, _request_id: told_error(error))


def _arguments(view: ModelView) -> frozenset[str]:
    return frozenset(view.template.arguments if view.template is not None else ())


def make_app(
    client: AsyncClient, home: Path, settings: GatewaySettings, metrics: Metrics
) -> Starlette:
    """The application without its door. `home`: the daemon's."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tidying = asyncio.create_task(tidy_for_ever(client, time.time, settings.keep_days * DAYS))
        try:
            yield
        finally:
            tidying.cancel()
            await client.close()

    parts = (
        Paths(client, home, settings),
        Embeddings(settings),
        Admin(client),
        Pages(client, metrics),
    )
    return Starlette(
        routes=[route for part in parts for route in part.routes()],
        exception_handlers={404: not_found, 405: not_that_method},
        lifespan=lifespan,
    )
