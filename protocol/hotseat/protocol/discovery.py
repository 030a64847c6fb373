"""The endpoint file by which clients find the daemon. Pure: bytes in, objects out."""

import msgspec

from hotseat.protocol.errors import HotseatError

ENDPOINT_FILE = "endpoint.json"
ENDPOINT_VARIABLE = "HOTSEAT_ENDPOINT"
HOME_VARIABLE = "HOTSEAT_HOME"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of `$HOTSEAT_HOME/run/endpoint.json`."""

    protocol_min: int
    protocol_max: int
    version: str
    instance: str
    pid: int
    requests: str
    """ZeroMQ address of the request socket, `ipc://...`."""
    http: str | None = None
    """Address of the gateway that the daemon keeps, while it listens."""


class GatewayNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway says about itself in `run/http-PORT.json`, which it holds locked."""

    pid: int
    address: str
    version: str
    watched: bool = False
    """A daemon started it and may end it."""
    settings: str = ""
    """Digest of what it was started with."""


def gateway_note_name(port: int) -> str:
    """Name of the file; a port has one server."""
    return f"http-{port}.json"


def parse_endpoint(data: bytes) -> Endpoint:
    """Raises `HotseatError` (daemon_unreachable) for anything but a whole endpoint file."""
    try:
        return msgspec.json.decode(data, type=Endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HotseatError(
            "daemon_unreachable", f"endpoint file is damaged ({error}); restart the daemon"
        ) from error
