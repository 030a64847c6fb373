"""A key has its own models released and no other, also if the seat changes hands meanwhile."""

from types import SimpleNamespace

import pytest
from msgspec import json
from starlette.requests import Request

from hotseat.gateway.admin import Admin
from hotseat.gateway.callers import OWNER, SCOPE_KEY, Caller
from hotseat.gateway.errors import status_of
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.views import ReleaseView

BOB = Caller(name="bob", models=("gemma",))


class Daemon:
    """Says who has the seat, and decides by who has it a moment later."""

    welcome = True

    def __init__(self, seen, seated):
        self._seen = seen
        self._seated = seated

    async def status(self):
        return SimpleNamespace(model=self._seen)

    async def release(self, _for_s, model):
        if model not in (None, self._seated):
            raise HotseatError("not_seated", f"{model} is not seated ({self._seated} is)")
        return ReleaseView(released=self._seated)


async def release(seen, seated, caller=BOB, body=b""):
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [], SCOPE_KEY: caller}
    answer = await Admin(Daemon(seen, seated)).release(Request(scope, receive))
    return json.decode(answer.body)["released"]


async def test_what_may_be_released_is():
    assert await release("gemma", "gemma") == "gemma"
    assert await release(None, "qwen", OWNER) == "qwen"


@pytest.mark.parametrize(
    ("seen", "seated", "body", "status"),
    [
        ("gemma", "qwen", b"", 409),
        (None, "qwen", b"", 409),
        ("gemma", "qwen", b'{"model": "gemma"}', 409),
        ("qwen", "qwen", b"", 403),
        ("gemma", "gemma", b'{"model": "qwen"}', 403),
    ],
)
async def test_model_of_others_stays_and_is_not_named(seen, seated, body, status):
    with pytest.raises(HotseatError) as refused:
        await release(seen, seated, body=body)
    assert status_of(refused.value) == status
    assert "qwen" not in refused.value.message
