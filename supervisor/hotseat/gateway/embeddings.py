"""Embeddings: of another server on this machine, if the settings name one. Never seats a model."""

import asyncio
import http.client
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotseat.gateway.replying import guarded_openai, identity
from hotseat.gateway.settings import GatewaySettings
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MAX_MESSAGE_BYTES

_AT_ONCE: Final = 4
"""Requests handed on side by side; each holds a thread of a pool that others need too."""
PATIENCE_S: Final = 60.0
_NONE: Final = (
    "hotseat makes no embeddings; name a server of this machine that does in [http] "
    "embeddings_url, or ask that one"
)


class Given(Struct, frozen=True):
    """What the other server said, whatever it was."""

    status: int
    kind: str
    body: bytes


class Embeddings:
    """Hands requests on as they are, without our key."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._url = settings.embeddings_url
        self._places = asyncio.Semaphore(_AT_ONCE)

    def routes(self) -> list[Route]:
        """Every path."""
        return [Route("/v1/embeddings", guarded_openai(self.embed), methods=["POST"])]

    async def embed(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        if self._url is None:
            raise HotseatError("unsupported_feature", _NONE)
        body = await request.body()
        async with self._places:
            given = await asyncio.to_thread(_ask, self._url, body)
        return Response(given.body, given.status, identity() | {"content-type": given.kind})


def _ask(url: str, body: bytes) -> Given:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", parts.path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        data = reply.read(MAX_MESSAGE_BYTES)
    except (OSError, http.client.HTTPException) as error:
        text = f"no embeddings from {url}: {error or type(error).__name__}; is it running?"
        raise HotseatError("daemon_unreachable", text, retry_after_s=5.0) from error
    finally:
        connection.close()
    return Given(reply.status, reply.getheader("content-type", "application/json"), data)
