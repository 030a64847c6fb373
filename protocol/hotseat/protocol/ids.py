"""Names for the identifiers that cross module boundaries, and the rules they obey. Pure."""

import re
from typing import Final, NewType

from hotseat.protocol.limits import MAX_REQUEST_ID_BYTES, MAX_SESSION_NAME

ClientToken = NewType("ClientToken", str)
"""32 hex digits; whoever presents it is that client."""
RequestId = NewType("RequestId", str)
"""Chosen by the client, unique within its token."""
RequestKey = NewType("RequestKey", str)
"""`token:request id`: unique in the daemon and on the link."""
SessionName = NewType("SessionName", str)
ModelName = NewType("ModelName", str)
Epoch = NewType("Epoch", int)
BlockId = NewType("BlockId", str)
"""32 hex digits: digest of (tag, parent block, 256 token ids)."""
Tag = NewType("Tag", str)
"""32 hex digits: identity that decides KV compatibility."""

_REQUEST_ID: Final = re.compile(rf"[A-Za-z0-9._:\-]{{1,{MAX_REQUEST_ID_BYTES}}}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+\- ]*")
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")


def is_request_id(value: str) -> bool:
    """True for 1-64 characters out of letters, digits and `._:-`."""
    return _REQUEST_ID.fullmatch(value) is not None


def is_session_name(value: str) -> bool:
    """True for names that are safe in paths and terminals: no slash, no leading dot."""
    return len(value) <= MAX_SESSION_NAME and _NAME.fullmatch(value) is not None


def is_model_name(value: str) -> bool:
    """Same rule as for sessions; a model name also names a folder."""
    return is_session_name(value)


def is_client_token(value: str) -> bool:
    """True for 32 lower-case hex digits."""
    return _TOKEN.fullmatch(value) is not None


def request_key(token: ClientToken, request_id: RequestId) -> RequestKey:
    """Joins identity and id; a client can only ever name requests under its own token."""
    return RequestKey(f"{token}:{request_id}")


def request_id_of(key: RequestKey) -> RequestId:
    """What its client called a request."""
    return RequestId(key.partition(":")[2])
