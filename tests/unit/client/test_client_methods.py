"""Both clients and the brief one offer the same methods: they are written once."""

import inspect

import pytest

from hotseat.client import AsyncClient, Client
from hotseat.client.blocking import Blocking, blocking
from hotseat.client.brief import BriefClient
from hotseat.client.verbs import Verbs
from hotseat.protocol.replies import Reply

ONLY_ASYNC = {"connect", "start_swap"}
"""What a blocking client does when it is built, and what its `swap` is made of."""


def methods(of):
    return {
        name: member
        for name, member in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_blocking_client_has_the_methods_of_the_asyncio_one():
    assert set(methods(Client)) == set(methods(AsyncClient)) - ONLY_ASYNC


@pytest.mark.parametrize("client", [Client, BriefClient])
def test_blocking_methods_take_what_the_asyncio_ones_take_and_are_not_awaited(client):
    awaited = methods(AsyncClient)
    for name, method in methods(client).items():
        assert (
            inspect.signature(method).parameters == inspect.signature(awaited[name]).parameters
        ), name
        assert method.__doc__, name
        assert not inspect.iscoroutinefunction(method), name


def test_opened_streams_say_which_kind_they_are():
    kinds = {
        name: inspect.signature(getattr(Client, name)).return_annotation.__name__
        for name in ("generate", "attach", "events")
    }
    assert kinds == {"generate": "Stream", "attach": "Stream", "events": "EventStream"}


class Told(Verbs):
    def __init__(self):
        self.messages = []

    async def _call(self, message, *, is_long=False):
        self.messages.append((message, is_long))
        return Reply(result={"removed_bytes": 7})


class Stepping(Blocking):
    delete_session = blocking(Verbs.delete_session)

    def __init__(self):
        self._verbs = Told()

    def _wait(self, work):
        with pytest.raises(StopIteration) as end:
            work.send(None)
        return end.value.value


def test_blocking_method_hands_its_arguments_on_and_returns_what_is_awaited():
    client = Stepping()
    assert client.delete_session("smol", name="chat") == 7
    ((message, is_long),) = client._verbs.messages
    assert (message.model, message.session, is_long) == ("smol", "chat", False)
