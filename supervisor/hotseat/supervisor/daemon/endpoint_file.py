"""The file by which clients find the daemon and its gateway. Its only writer."""

import os

import msgspec

from hotseat.protocol import failpoints
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.limits import PROTOCOL_MAX, PROTOCOL_MIN
from hotseat.supervisor.ports.client_port import ClientPort, Identity
from hotseat.supervisor.settings.home import Home


class EndpointFile:
    """There from `publish` to `remove`: whole or not at all, readable by this user only."""

    def __init__(self, home: Home, port: ClientPort, identity: Identity) -> None:
        self._path = home.endpoint_file
        self._port = port
        self._identity = identity
        self._http: str | None = None
        self._is_there = False

    def publish(self) -> None:
        """From now on clients come."""
        endpoint = Endpoint(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            version=self._identity.version,
            instance=self._identity.instance,
            pid=os.getpid(),
            requests=self._port.address,
            http=self._http,
        )
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(endpoint))
        draft.chmod(0o600)
        if failpoints.ARMED:
            failpoints.reach("endpoint.written")
        draft.replace(self._path)
        self._is_there = True

    def show_gateway(self, address: str | None) -> None:
        """Where HTTP clients come; None while nobody listens."""
        if address != self._http:
            self._http = address
            if self._is_there:
                self.publish()

    def remove(self) -> None:
        """Nobody finds the daemon any more."""
        self._is_there = False
        self._path.unlink(missing_ok=True)
