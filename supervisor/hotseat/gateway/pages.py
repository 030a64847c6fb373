"""What is read beside the dialects: the front page, metrics, the description; and paths of nobody.

None of it wakes, loads or swaps anything.
"""

import asyncio
from functools import cache
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.gateway.callers import caller_of
from hotseat.gateway.door import in_dialect
from hotseat.gateway.errors import ForbiddenError
from hotseat.gateway.metrics import TOPICS, Metrics
from hotseat.gateway.openapi import describe
from hotseat.gateway.replying import answer, guarded_openai, identity
from hotseat.gateway.serving import reached
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.protocol.views import ModelView, StatusView

_QUIET_S: Final = 0.05
"""Events that the daemon keeps come at once; after so long there are no more."""
_METRICS_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
_FRONT: Final = """hotseat: one seat, many local models.

This is its gateway for agents that speak HTTP:
  /v1/chat/completions  /v1/responses  /v1/models   as OpenAI's packages ask
  /v1/messages  /v1/messages/count_tokens           as Anthropic's packages ask
  /api/chat  /api/generate  /api/tags               as Ollama's clients ask
  /health/live  /health/ready  /metrics  /openapi.json  /admin/...

Every path but this one and /health needs the key: hotseat gateway --print-env
"""


class Pages:
    """Answers with one client of the daemon."""

    def __init__(self, client: AsyncClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics
        self._seen = 0
        self._reading = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Every path."""
        return [
            Route("/", self.front, methods=["GET"]),
            Route("/metrics", guarded_openai(self.metrics), methods=["GET"]),
            Route("/openapi.json", guarded_openai(self.openapi), methods=["GET"]),
        ]

    async def front(self, request: Request) -> Response:
        """GET /: what this is."""
        del request
        return PlainTextResponse(_FRONT, headers=identity())

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        del request
        return Response(_description(), media_type="application/json", headers=identity())

    async def metrics(self, request: Request) -> Response:
        """GET /metrics, for the owner: figures of everybody are in it."""
        if not caller_of(request.scope).is_owner:
            raise ForbiddenError("/metrics has figures of everybody; only the owner's key reads it")
        async with self._reading:
            status, views = await self._read()
        page = self._metrics.render(status, views)
        return Response(page, headers=identity() | {"content-type": _METRICS_TYPE})

    async def _read(self) -> tuple[StatusView | None, list[ModelView]]:
        try:
            client = await reached(self._client)
            await self._catch_up(client)
            return await client.status(), await client.models()
        except HotseatError:
            return None, []

    async def _catch_up(self, client: AsyncClient) -> None:
        """Counts what happened since the last look, as far back as the daemon tells."""
        async with client.events(since=self._seen, topics=TOPICS) as events:
            while True:
                try:
                    event = await asyncio.wait_for(events.next(), _QUIET_S)
                except TimeoutError:
                    return
                if event is None:
                    return
                if isinstance(event, Event):
                    self._metrics.happened(event)
                    self._seen = event.seq
                else:
                    self._seen = event.next_seq - 1


@cache
def _description() -> bytes:
    return msgspec.json.encode(describe())


async def not_found(request: Request, error: Exception) -> Response:
    """404 in the words of the dialect."""
    del error
    path = request.url.path
    return answer(_in_dialect(path, f"no such path {path!r}; /openapi.json lists them", 404), 404)


async def not_that_method(request: Request, error: Exception) -> Response:
    """405, or what OPTIONS asks for."""
    given = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    allowed = {name: ", ".join(sorted(value.split(", "))) for name, value in given.items()}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=identity() | allowed)
    text = f"{request.method} is not for {request.url.path!r}; see the Allow header"
    return answer(_in_dialect(request.url.path, text, 405), 405, headers=allowed)


def _in_dialect(path: str, text: str, status: int) -> dict[str, Any]:
    kind = "not_found_error" if status == _NOT_FOUND else "invalid_request_error"
    error = {"type": kind, "message": text}
    return in_dialect(path, error, "not_found" if status == _NOT_FOUND else "method_not_allowed")


_NOT_FOUND: Final = 404
