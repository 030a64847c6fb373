"""Ids of responses: which turn of which session one is, signed. Pure.

Nothing else is kept of a response, so an id leads to it over restarts of everything.
"""

import secrets
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.gateway.sealing import Seal
from hotseat.protocol.errors import HotseatError

_PREFIX: Final = "resp_"


class ResponseId(Struct, frozen=True, array_like=True, kw_only=True):
    """Where a response is kept.

    `head`: of what must be equal for the next answer to be appended (`value.same_head`).
    `request`: the one that made the turn: after a rewind another turn gets its number.
    `instructed`: the history begins with instructions, which the next answer does not inherit.
    """

    model: str
    session: str
    turn: int
    head: str
    instructed: bool
    request: str


def write_id(seal: Seal, owner: str, response: ResponseId) -> str:
    """An id that only its owner can use; no other has its request."""
    return _PREFIX + seal.close(_purpose(owner), msgspec.msgpack.encode(response))


def unkept_id() -> str:
    """An id of a response that leads nowhere."""
    return _PREFIX + secrets.token_hex(24)


def read_id(seal: Seal, owner: str, text: str, param: str | None) -> ResponseId:
    """What an id stands for. Raises an error that is 404 for what was never given to this owner."""
    data = seal.open(_purpose(owner), text.removeprefix(_PREFIX))
    if data is None or not text.startswith(_PREFIX):
        raise unknown(text, param)
    try:
        return msgspec.msgpack.decode(data, type=ResponseId)
    except msgspec.DecodeError as error:
        raise unknown(text, param) from error


def unknown(text: str, param: str | None) -> HotseatError:
    """The error of an id that leads nowhere."""
    shown = text[:40]
    return HotseatError(
        "session_missing",
        f"there is no response {shown!r}: it was not stored, or its session is gone; send the "
        "history",
        field=param,
    )


def _purpose(owner: str) -> str:
    return f"response:{owner}"
