"""The seat and what is kept, over HTTP: for the owner, and for keys that may swap.

Must not know dialects. Errors have the shape that OpenAI's packages read.
"""

import asyncio
import hashlib
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotseat.client import AsyncClient
from hotseat.client.aio import SwapMode
from hotseat.client.flow import Flow
from hotseat.client.requests import new_request_id
from hotseat.gateway.callers import Caller, caller_of
from hotseat.gateway.errors import ForbiddenError
from hotseat.gateway.models import find_model
from hotseat.gateway.replying import Handler, answer, guarded_openai, label_of
from hotseat.gateway.serving import reached
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import is_request_id
from hotseat.protocol.replies import Progress, SwapReport

_KEPT: Final = 256
_ID_BYTES: Final = 16
S = TypeVar("S", bound=Struct)


class SwapOrder(Struct, kw_only=True):
    """Body of /admin/models/swap. `wait` false: answered at once with an operation."""

    model: str
    mode: SwapMode = "auto"
    wait: bool = True


class ReleaseOrder(Struct, kw_only=True):
    """Body of /admin/release, which may be missing."""

    model: str | None = None
    for_s: float | None = None


class Operation(Struct, kw_only=True):
    """A swap that somebody looks at again."""

    id: str
    model: str
    state: Literal["running", "finished", "failed"] = "running"
    phase: str = ""
    report: SwapReport | None = None
    error: str | None = None
    message: str | None = None


class Operations:
    """The last ones of this gateway, with whose they are."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Operation, Caller]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, operation_id: str, caller: Caller) -> Operation | None:
        """One of this caller's; the owner sees all."""
        operation, owner = self._kept.get(operation_id, (None, caller))
        return operation if caller.is_owner or owner == caller else None

    def begin(
        self, operation: Operation, caller: Caller, flow: Flow[Progress, SwapReport]
    ) -> asyncio.Task[None]:
        """Follows a swap to its end."""
        while len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[operation.id] = (operation, caller)
        task = asyncio.get_running_loop().create_task(_follow(operation, caller, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _follow(operation: Operation, caller: Caller, flow: Flow[Progress, SwapReport]) -> None:
    try:
        while (progress := await flow.next()) is not None:
            operation.phase = progress.phase
        operation.report = _visible(await flow.result(), caller)
        operation.state = "finished"
    except HotseatError as error:
        operation.state, operation.error = "failed", error.code
        operation.message = error.message


def _visible(report: SwapReport, caller: Caller) -> SwapReport:
    """Without the name of a model that does not exist for this caller."""
    if report.from_ is None or caller.may_use(report.from_):
        return report
    return msgspec.structs.replace(report, from_=None)


class Admin:
    """Answers with one client of the daemon."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._operations = Operations()

    def routes(self) -> list[Route]:
        """Every path."""
        paths: tuple[tuple[str, Handler, str], ...] = (
            ("/admin/models/swap", self.swap, "POST"),
            ("/admin/models/current", self.current, "GET"),
            ("/admin/models/available", self.available, "GET"),
            ("/admin/release", self.release, "POST"),
            ("/admin/operations/{id}", self.operation, "GET"),
            ("/admin/sessions", self.sessions, "GET"),
            ("/admin/sessions/{model}/{session}", self.delete_session, "DELETE"),
        )
        return [
            Route(path, guarded_openai(_for_swappers(handler)), methods=[method])
            for path, handler, method in paths
        ]

    async def swap(self, request: Request) -> Response:
        """POST /admin/models/swap: the report, or an operation to look at again."""
        order = _read(await request.body(), SwapOrder)
        caller = caller_of(request.scope)
        client = await reached(self._client)
        view = find_model(caller.visible(await client.models()), order.model)
        swap_id = _swap_id(caller, request.headers.get("idempotency-key"))
        known = self._operations.find(swap_id, caller)
        if known is not None and not order.wait:
            return _told(known)
        flow = client.start_swap(view.name, order.mode, request_id=swap_id, agent=label_of(request))
        if order.wait:
            return answer(_visible(await flow.result(), caller))
        operation = Operation(id=swap_id, model=view.name)
        task = self._operations.begin(operation, caller, flow)
        # What is refused at once is told at once.
        await asyncio.wait({task}, timeout=_AT_ONCE_S)
        if operation.state == "failed" and operation.error is not None:
            raise HotseatError(operation.error, operation.message or "")
        return _told(operation)

    async def operation(self, request: Request) -> Response:
        """GET /admin/operations/ID."""
        wanted = request.path_params["id"]
        found = self._operations.find(wanted, caller_of(request.scope))
        if found is None:
            text = f"no operation {wanted!r}; the last {_KEPT} of this gateway are kept"
            raise HotseatError("request_unknown", text)
        return answer(found)

    async def release(self, request: Request) -> Response:
        """POST /admin/release: the seat is given up, contexts are kept."""
        order = _read(await request.body() or b"{}", ReleaseOrder)
        client = await reached(self._client)
        caller = caller_of(request.scope)
        if not caller.models:
            return answer(await client.release(order.for_s, order.model))
        model = order.model or (await client.status()).model
        if model is None:
            raise HotseatError("not_seated", "no model is seated")
        if not caller.may_use(model):
            raise ForbiddenError("the seat is another's model; this key may not have it released")
        try:
            # By its name: the daemon refuses if another one has taken the seat meanwhile.
            return answer(await client.release(order.for_s, model))
        except HotseatError as error:
            if error.code != "not_seated":
                raise
            text = f"{model} is not seated"  # who is, is nothing to this key
            raise HotseatError("not_seated", text) from error

    async def current(self, request: Request) -> Response:
        """GET /admin/models/current."""
        status = await (await reached(self._client)).status()
        caller = caller_of(request.scope)
        seated = status.model if status.model and caller.may_use(status.model) else None
        told = {"model": seated, "phase": status.phase, "seated_for_s": status.seated_for_s}
        return answer(told | ({"swap": status.swap} if caller.is_owner else {}))

    async def available(self, request: Request) -> Response:
        """GET /admin/models/available: all registered ones, with why one cannot be seated."""
        views = await (await reached(self._client)).models()
        return answer({"models": caller_of(request.scope).visible(views)})

    async def sessions(self, request: Request) -> Response:
        """GET /admin/sessions?model=NAME: names and sizes, no text."""
        caller = caller_of(request.scope)
        client, model = await reached(self._client), request.query_params.get("model")
        if model is not None:
            model = find_model(caller.visible(await client.models()), model).name
        views = await client.sessions(model)
        told = [
            msgspec.structs.replace(view, session=name)
            for view in views
            if (name := caller.own_name(view.session)) is not None and caller.may_use(view.model)
        ]
        return answer({"sessions": told})

    async def delete_session(self, request: Request) -> Response:
        """DELETE /admin/sessions/MODEL/NAME."""
        client, caller = await reached(self._client), caller_of(request.scope)
        model, name = request.path_params["model"], request.path_params["session"]
        view = find_model(caller.visible(await client.models()), model)
        removed = await client.delete_session(view.name, caller.session(name))
        return answer({"deleted": True, "removed_bytes": removed})


_AT_ONCE_S: Final = 0.1


def _for_swappers(handler: Handler) -> Handler:
    async def checked(request: Request) -> Response:
        if not caller_of(request.scope).may_swap:
            raise ForbiddenError("this key may not swap, and so sees nothing of /admin")
        return await handler(request)

    return checked


def _told(operation: Operation) -> Response:
    place = {"location": f"/admin/operations/{operation.id}"}
    return answer(operation, status=202, headers=place)


def _swap_id(caller: Caller, given: str | None) -> str:
    """The wire's id of a swap: one key's ids are not another's."""
    if given is None:
        return new_request_id()
    if not caller.is_owner:
        text = f"{caller.name}:{given}"
        return hashlib.blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()
    if not is_request_id(given):
        text = "Idempotency-Key: use 1 to 64 letters, digits, and . _ : -"
        raise HotseatError("invalid_request", text, field="Idempotency-Key")
    return given


def _read(body: bytes, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HotseatError("invalid_request", f"body: {error}", **_field(str(error))) from error


def _field(text: str) -> dict[str, Any]:
    _, mark, path = text.partition(" - at `$.")
    return {"field": path.rstrip("`")} if mark else {}
