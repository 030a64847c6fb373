"""Work whose client was sent away goes on, and makes room for nobody else's."""

import asyncio
import json

import pytest
from starlette.requests import Request

from hotseat.gateway import holding
from hotseat.gateway.callers import SCOPE_KEY, Caller
from hotseat.gateway.holding import Begun, Holding
from hotseat.protocol.errors import HotseatError


class Endless:
    """Work without output."""

    def __init__(self):
        self.left = asyncio.Event()

    async def next_event(self):
        await asyncio.Event().wait()

    async def leave(self):
        self.left.set()


class Door:
    """Asks as one of several keys, and is sent away each time."""

    def __init__(self):
        self.begun = []
        self._holding = Holding(0.0)

    async def ask(self, owner, number):
        """True if work was begun for it."""
        body = json.dumps(number).encode()
        begun = len(self.begun)

        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def begin():
            self.begun.append(Endless())
            return Begun(self.begun[-1], lambda _: {})

        caller = Caller(name=owner)
        scope = {"type": "http", "path": "/v1/messages", "headers": [], SCOPE_KEY: caller}
        with pytest.raises(HotseatError, match="still being made"):
            await self._holding.answer(Request(scope, receive), begin)
        return len(self.begun) > begun


async def test_key_that_asks_too_much_loses_only_its_own_oldest_work(monkeypatch):
    monkeypatch.setattr(holding, "_MOST", 3)
    door = Door()
    assert await door.ask("anna", 0)
    for number in range(4):
        assert await door.ask("bob", number)
    assert not await door.ask("anna", 0)
    assert not await door.ask("bob", 3)
    await asyncio.wait_for(door.begun[1].left.wait(), 5)
    assert await door.ask("bob", 0)
