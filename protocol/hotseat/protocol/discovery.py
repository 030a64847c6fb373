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


def parse_endpoint(data: bytes) -> Endpoint:
    """Raises `HotseatError` (daemon_unreachable) for anything but a whole endpoint file."""
    try:
        return msgspec.json.decode(data, type=Endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HotseatError(
            "daemon_unreachable", f"endpoint file is damaged ({error}); restart the daemon"
        ) from error
