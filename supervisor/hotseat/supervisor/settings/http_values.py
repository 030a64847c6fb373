"""Values of `[http]`: what the gateway is told. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, json

from hotseat.supervisor.settings.kinds import (
    Address,
    Count,
    FilePath,
    Port,
    Priority,
    Seconds,
    Texts,
)


class AgentSettings(Struct, frozen=True, kw_only=True):
    """`[http.agents.PRODUCT]`: of one agent program, by what its User-Agent begins with."""

    priority: Priority | None = None
    """Of all its requests, unless its key says one."""
    hold_s: Seconds | None = None
    """Its next turn comes within that time: the seat may wait for it so long."""
    swap: Literal["auto", "wait", "never"] | None = None
    """What its requests may do; unset: `auto`, and `wait` for titles and summaries."""


class HttpSettings(Struct, frozen=True, kw_only=True):
    """`[http]`: the gateway for agents that speak HTTP. `hotseat gateway` takes the same."""

    enabled: bool = False
    """The daemon starts the gateway, watches it and starts it again."""
    host: Address = "127.0.0.1"
    """Address to listen on; one beyond this machine needs `tls_cert` and `tls_key`."""
    port: Port = 4687
    """Port to listen on; it is never shared with another server."""
    open_loopback: bool = False
    """Programs of this machine need no key, those of its other users neither."""
    hosts: Texts = ()
    """Names by which clients call this machine, beside `localhost` and `host`."""
    origins: Texts = ()
    """Web pages that may ask, as `https://name:port`."""
    tls_cert: FilePath | None = None
    """Certificate with its chain, PEM."""
    tls_key: FilePath | None = None
    """Key of the certificate, PEM."""
    hold_s: Seconds = 540.0
    """How long a request for a whole answer is held before it is told to come back."""
    keep_days: Count = 14
    """Days for which conversations are kept that nobody named."""
    parts: Literal["text", "refuse"] = "text"
    """What a model cannot read, as images, is left out with a line in its place, or refused."""
    progress: Literal["off", "reasoning"] = "off"
    """`reasoning` shows waiting and loading as text of reasoning."""
    embeddings_url: Address | None = None
    """Where embeddings are handed on to, `http://127.0.0.1:PORT/v1/embeddings`; unset: refused."""
    agents: Mapping[str, AgentSettings] = {}

    @property
    def digest(self) -> str:
        """Differs where anything differs: a gateway tells what it was started with."""
        return hashlib.blake2b(json.encode(self), digest_size=8).hexdigest()
