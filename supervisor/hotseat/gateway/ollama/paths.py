"""Paths of Ollama's dialect."""

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.gateway.asked import Asked, unsupported
from hotseat.gateway.callers import caller_of
from hotseat.gateway.errors import ForbiddenError
from hotseat.gateway.ollama.answer import MEDIA_TYPE, Frame, Lines, whole_answer
from hotseat.gateway.ollama.body import NamedBody, Order, decode, read_chat, read_generate
from hotseat.gateway.ollama.views import find_named, running, shown, tags
from hotseat.gateway.replying import answer
from hotseat.gateway.serving import Telling, Whole
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.version import VERSION
from hotseat.protocol.views import ModelView

Known = Callable[[Request], Awaitable[list[ModelView]]]
Answer = Callable[
    [Request, Asked, Telling, Callable[[Whole], dict[str, Any]], str], Awaitable[Response]
]
_ELSEWHERE: Final = {
    "/api/embed": "no model here makes embeddings; run a server for them beside this one",
    "/api/embeddings": "no model here makes embeddings; run a server for them beside this one",
    "/api/pull": "models come by `hotseat import`",
    "/api/push": "models stay on this machine",
    "/api/create": "models come by `hotseat import`",
    "/api/copy": "a model has one name here; see [aliases] in docs/configuration.md",
    "/api/delete": "models go by `hotseat models rm`",
}


class Ollama:
    """Answers with what the other dialects answer with. `known`: what exists for a key."""

    def __init__(self, client: AsyncClient, known: Known, answered: Answer) -> None:
        self._client = client
        self._known = known
        self._answered = answered

    def routes(self, guarded: Callable[[Any], Any]) -> list[Route]:
        """Every path."""
        own = [
            ("/api/version", self.version, "GET"),
            ("/api/tags", self.tags, "GET"),
            ("/api/ps", self.running, "GET"),
            ("/api/show", self.show, "POST"),
            ("/api/chat", self.chat, "POST"),
            ("/api/generate", self.generate, "POST"),
        ]
        elsewhere = [
            Route(path, guarded(self.elsewhere), methods=["POST", "DELETE"]) for path in _ELSEWHERE
        ]
        return [
            *(Route(path, guarded(handler), methods=[method]) for path, handler, method in own),
            *elsewhere,
        ]

    async def version(self, request: Request) -> Response:
        """GET /api/version."""
        del request
        return answer({"version": VERSION})

    async def tags(self, request: Request) -> Response:
        """GET /api/tags."""
        return answer(tags(await self._known(request)))

    async def running(self, request: Request) -> Response:
        """GET /api/ps."""
        return answer(running(await self._known(request), await self._client.status()))

    async def show(self, request: Request) -> Response:
        """POST /api/show."""
        body = decode(await request.body(), NamedBody)
        return answer(shown(find_named(await self._known(request), body.model or body.name or "")))

    async def chat(self, request: Request) -> Response:
        """POST /api/chat."""
        return await self._order(request, read_chat(await request.body()), is_chat=True)

    async def generate(self, request: Request) -> Response:
        """POST /api/generate."""
        return await self._order(request, read_generate(await request.body()), is_chat=False)

    async def elsewhere(self, request: Request) -> Response:
        """What is not done over HTTP, with the way it is done."""
        path = request.url.path
        raise unsupported(path, _ELSEWHERE[path])

    async def _order(self, request: Request, order: Order, *, is_chat: bool) -> Response:
        view = await self._view(request, order.model)
        frame = Frame(order.model, time.time(), is_chat=is_chat)
        if order.asked is None:
            return await self._seat(request, view, frame, gives_up=order.gives_up)
        asked = msgspec.structs.replace(order.asked, model=view.name)
        if asked.messages and view.template is not None and view.template.mode == "raw":
            words = "\n".join(str(message.content or "") for message in asked.messages)
            asked = msgspec.structs.replace(asked, messages=None, prompt=words)

        def at_once(found: Whole) -> dict[str, Any]:
            return whole_answer(frame, found.done, found.logprobs)

        return await self._answered(request, asked, Lines(frame), at_once, MEDIA_TYPE)

    async def _view(self, request: Request, name: str) -> ModelView:
        """What is known of a model; of an alias, which only the daemon knows, its name."""
        views = await self._known(request)
        with contextlib.suppress(HotseatError):
            return find_named(views, name)
        return ModelView(name=name, state="ready")

    async def _release(self, name: str) -> None:
        """Also where it does not have the seat."""
        try:
            await self._client.release(model=name)
        except HotseatError as error:
            if error.code != "not_seated":
                raise

    async def _seat(
        self, request: Request, view: ModelView, frame: Frame, *, gives_up: bool
    ) -> Response:
        caller = caller_of(request.scope)
        if not (caller.may_swap and caller.may_use(view.name)):
            raise ForbiddenError(f"this key may not decide about the seat of {view.name!r}")
        if gives_up:
            await self._release(view.name)
        else:
            await self._client.swap(view.name)
        reason = "unload" if gives_up else "load"
        return answer({**frame.object(), "done": True, "done_reason": reason})
