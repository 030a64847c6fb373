"""POST, GET and DELETE of responses, and the counting of their input.

Nothing is kept here: a response is a turn of a session at the daemon, and its id says which.
"""

import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hotseat.client import AsyncClient
from hotseat.client.flow import AsyncStream
from hotseat.gateway.accounts import account_of
from hotseat.gateway.asked import Asked, unsupported
from hotseat.gateway.conversations.comparing import Compared, Comparisons, shape_of
from hotseat.gateway.conversations.index import Place
from hotseat.gateway.conversations.noting import Noted
from hotseat.gateway.conversations.turns import Call, Conversations, Opened, head_of
from hotseat.gateway.conversations.value import Head, branch_prefix, same_head
from hotseat.gateway.holding import Begun, Holding
from hotseat.gateway.replying import (
    answer,
    identity,
    left_out_header,
    owner_of,
    session_of,
)
from hotseat.gateway.responses.answer import Facts, ResponsesStream, response_object, whole_response
from hotseat.gateway.responses.body import ReadResponse, Told, read_count, read_response
from hotseat.gateway.responses.ids import ResponseId, read_id, unkept_id, unknown, write_id
from hotseat.gateway.responses.items import Opener
from hotseat.gateway.responses.kept import kept_output
from hotseat.gateway.sealing import Seal, seal_of
from hotseat.gateway.serving import Streamed, Whole
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message
from hotseat.protocol.replies import Done

_PARAM: Final = "previous_response_id"
_REASONING: Final = "reasoning"


class Responses:
    """Answers the paths below /v1/responses."""

    def __init__(
        self,
        client: AsyncClient,
        conversations: Conversations,
        called: Callable[[Request, Asked], Awaitable[Call]],
        holding: Holding,
        comparisons: Comparisons,
        home: Path,
        *,
        shows_phases: bool,
    ) -> None:
        self._shows_phases = shows_phases
        self._client = client
        self._conversations = conversations
        self._called = called
        self._holding = holding
        self._comparisons = comparisons
        self._home = home

    @functools.cached_property
    def _seal(self) -> Seal:
        return seal_of(self._home)

    async def create(self, request: Request) -> Response:
        """POST /v1/responses."""
        owner, account = owner_of(request), account_of(request.scope)
        read = read_response(await request.body(), self._opener(owner))
        call = await self._called(request, read.asked)
        head = head_of(call, read.asked, is_kept=read.told.store)
        headers = left_out_header(read.asked.left_out)
        if read.asked.is_streamed:
            stream, facts, ended = await self._begin(owner, call, head, read)
            telling = Noted(account.stream(ResponsesStream(facts)), account.heard(ended))
            return Streamed(stream, telling, headers | identity())

        async def begin() -> Begun:
            stream, facts, noted = await self._begin(owner, call, head, read)
            ended = account.heard(noted)

            def told(found: Whole) -> dict[str, Any]:
                ended(found.done)
                return whole_response(facts, found.done, found.logprobs)

            return Begun(stream, told)

        return answer(await self._holding.answer(request, begin), headers=headers)

    async def _begin(
        self, owner: str, call: Call, head: Head, read: ReadResponse
    ) -> tuple[AsyncStream, Facts, Callable[[Done], None]]:
        opened, messages = await self._open(call, head, read)
        facts = Facts(
            response_id=self._id_of(opened, call, head, read),
            created_at=int(time.time()),
            told=read.told,
            origins=read.origins,
            sealed=functools.partial(self._sealed, owner) if read.wants_encrypted else None,
            shows_phases=self._shows_phases,
            compared=self._compared(head, read, messages),
        )

        def ended(done: Done) -> None:
            shape = shape_of(head, messages or read.system, is_whole=bool(messages))
            self._comparisons.keep(owner, facts.response_id, shape, done)
            if messages:
                self._conversations.note(head, messages, done)

        return opened.stream, facts, ended

    def _compared(
        self, head: Head, read: ReadResponse, messages: tuple[Message, ...]
    ) -> Compared | None:
        """How its prompt begins beside that of the response it names; None if it names none."""
        former_id = read.asked.compared_to
        if not former_id:
            return None
        return self._comparisons.compare(
            head,
            former_id,
            messages or read.system,
            is_whole=bool(messages),
            goes_on=former_id == read.told.previous_response_id,
        )

    async def count(self, request: Request) -> Response:
        """POST /v1/responses/input_tokens: changes nothing, seats nothing."""
        owner = owner_of(request)
        read = read_count(await request.body(), self._opener(owner))
        call = await self._called(request, read.asked)
        given = await self._counted(head_of(call, read.asked), read)
        found = await self._client.count(
            call.registered,
            tools=read.asked.tools or None,
            template_args=call.options.get("template_args"),
            **given,
        )
        return answer({"object": "response.input_tokens", "input_tokens": found.tokens})

    async def _counted(self, head: Head, read: ReadResponse) -> dict[str, Any]:
        """What to count: by its session if the answer would be appended to it as it is now."""
        added = read.asked.messages or ()
        text = read.told.previous_response_id
        if text is None:
            return await self._conversations.counted(head, (*read.system, *added))
        found = read_id(self._seal, head.owner, text, _PARAM)
        if found.head == same_head(head, read.told.instructions):
            given = await self._conversations.counted_at(_place(found), added)
            if given is not None:
                return given
        return {"messages": (*read.system, *await self._held(head.owner, read), *added)}

    async def retrieve(self, request: Request) -> Response:
        """GET /v1/responses/ID."""
        text = request.path_params["response_id"]
        if request.query_params.get("stream") == "true":
            raise unsupported("stream", "a response that has ended is read at once; leave it out")
        found = read_id(self._seal, owner_of(request), text, None)
        history, at = await self._read(text, found, None)
        facts = Facts(
            response_id=text,
            created_at=int(at),
            told=Told(model=found.model, instructions=_instructions(found, history)),
        )
        output = kept_output(history[-1]) if history else []
        return answer(response_object(facts, output, "completed"))

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/responses/ID: its turn goes, and its session with the first one."""
        text = request.path_params["response_id"]
        found = read_id(self._seal, owner_of(request), text, None)
        await self._read(text, found, None)
        view = await self._conversations.view(_place(found))
        if view.turn > found.turn:
            raise HotseatError(
                "session_conflict",
                f"turn {view.turn} goes on behind this response, turn {found.turn}; delete the "
                "later ones first",
                turn=view.turn,
            )
        before = [mark.turn for mark in view.turns or () if mark.turn < found.turn]
        if before:
            await self._client.rewind_session(view.model, view.session, before[-1])
        else:
            await self._client.delete_session(view.model, view.session)
        return answer({"id": text, "object": "response", "deleted": True})

    # --- where it goes on -----------------------------------------------------------------------

    async def _open(
        self, call: Call, head: Head, read: ReadResponse
    ) -> tuple[Opened, tuple[Message, ...]]:
        """The work, and the whole history it is asked with if that is known."""
        added = read.asked.messages or ()
        whole_history = (*read.system, *added)
        session = session_of(call.http)
        if session is not None:
            return await self._named(call, session, whole_history), ()
        if read.told.previous_response_id is not None:
            return await self._continued(call, head, read)
        opened = await self._conversations.recognise(
            call, head, whole_history, is_kept=read.told.store
        )
        return opened, whole_history

    async def _continued(
        self, call: Call, head: Head, read: ReadResponse
    ) -> tuple[Opened, tuple[Message, ...]]:
        text = read.told.previous_response_id or ""
        found = read_id(self._seal, head.owner, text, _PARAM)
        added = read.asked.messages or ()
        if found.head == same_head(head, read.told.instructions) and read.told.store:
            try:
                return await self._conversations.resume(call, _place(found), added), ()
            except HotseatError as error:
                if error.code != "session_missing":
                    raise
                raise unknown(text, _PARAM) from error
        history = (*read.system, *await self._held(head.owner, read), *added)
        if not read.told.store:
            return await self._conversations.recognise(call, head, history), history
        prefix = branch_prefix(head.owner, found.session)
        return await self._conversations.begin(call, prefix, history), history

    async def _held(self, owner: str, read: ReadResponse) -> tuple[Message, ...]:
        """What the response before was part of, without the instructions of then."""
        text = read.told.previous_response_id
        if text is None:
            return ()
        found = read_id(self._seal, owner, text, _PARAM)
        held, _ = await self._read(text, found, _PARAM)
        return held[1:] if found.instructed else held

    async def _read(
        self, text: str, found: ResponseId, param: str | None
    ) -> tuple[tuple[Message, ...], float]:
        """The history that ends with a response, and when that was."""
        try:
            return await self._conversations.read(_place(found))
        except HotseatError as error:
            if error.code != "session_missing":
                raise
            raise unknown(text, param) from error

    async def _named(self, call: Call, session: str, messages: tuple[Message, ...]) -> Opened:
        """A session that the client names: its turn is asked for, since the id tells it."""
        turn = 0
        try:
            turn = (await self._client.session(call.registered, session)).turn
        except HotseatError as error:
            if error.code != "session_missing":
                raise
        given = {"messages": messages, "session": session, "expect_turn": turn}
        opened = await self._conversations.open(call, **given)
        return Opened(opened.stream, session, turn + 1)

    def _id_of(self, opened: Opened, call: Call, head: Head, read: ReadResponse) -> str:
        if not opened.session or not read.told.store:
            return unkept_id()
        response = ResponseId(
            model=call.registered,
            session=opened.session,
            turn=opened.turn,
            head=same_head(head, read.told.instructions),
            instructed=bool(read.system),
            request=opened.stream.request_id,
        )
        return write_id(self._seal, head.owner, response)

    # --- reasoning that clients carry -----------------------------------------------------------

    def _sealed(self, owner: str, text: str) -> str:
        return self._seal.close(f"{_REASONING}:{owner}", text.encode())

    def _opener(self, owner: str) -> Opener:
        """Reads the key too: one that cannot be read is told before there is any work."""
        seal = self._seal

        def opened(text: str) -> str | None:
            data = seal.open(f"{_REASONING}:{owner}", text)
            return None if data is None else data.decode()

        return opened


def _place(found: ResponseId) -> Place:
    return Place(model=found.model, session=found.session, turn=found.turn, request=found.request)


def _instructions(found: ResponseId, history: tuple[Message, ...]) -> str | None:
    first = history[0].content if found.instructed and history else None
    return first if isinstance(first, str) else None
