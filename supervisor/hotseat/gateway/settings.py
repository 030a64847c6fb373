"""What the gateway is told: where it listens, who may come in, how it answers."""

import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import asdict

from hotseat.protocol.errors import HotseatError

_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - looked for, not bound
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class AgentPolicy(Struct, frozen=True, kw_only=True):
    """What all requests of an agent program are told with; None: nothing."""

    priority: int | None = None
    hold_s: float | None = None
    swap: Literal["auto", "wait", "never"] | None = None

    def options(self) -> dict[str, Any]:
        """Keywords of `AsyncClient.generate`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """`[http]` of the settings, with what the command line said instead."""

    host: str = "127.0.0.1"
    port: int = 4687
    open_loopback: bool = False
    insecure_lan: bool = False
    """Beyond this machine without TLS: keys and texts travel in the open."""
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    hold_s: float = 540.0
    keep_days: int = 14
    parts: Literal["text", "refuse"] = "text"
    progress: Literal["off", "reasoning"] = "off"
    embeddings_url: str | None = None
    agents: Mapping[str, AgentPolicy] = {}
    """By what a User-Agent begins with."""

    @property
    def address(self) -> str:
        """As clients write it."""
        scheme = "https" if self.tls_cert else "http"
        name = self.host
        if name in _EVERYWHERE:
            name = self.hosts[0] if self.hosts else "127.0.0.1"
        return f"{scheme}://{f'[{name}]' if ':' in name else name}:{self.port}"

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names that a Host header may have, lower case."""
        return LOOPBACK | {self.host.lower()} | {name.lower() for name in self.hosts}


def check_settings(settings: GatewaySettings) -> None:
    """Raises HotseatError (invalid_config) for a door that would stand open, or cannot be made."""
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise _refusal("tls_cert and tls_key belong together; give both", settings)
    if settings.tls_cert:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                settings.tls_cert, settings.tls_key
            )
        except OSError as error:  # an SSLError is one
            text = f"certificate {settings.tls_cert} and its key cannot be used: {error}"
            raise _refusal(text, settings) from error
    if settings.embeddings_url is not None and not _is_near(settings.embeddings_url):
        text = (
            f"embeddings_url {settings.embeddings_url!r}: use http://127.0.0.1:PORT/v1/embeddings"
        )
        raise _refusal(text, settings)
    if settings.host in LOOPBACK:
        return
    where = f"host {settings.host!r} is beyond this machine"
    if settings.open_loopback:
        raise _refusal(f"{where}, where nobody comes in without a key; no open_loopback", settings)
    if not settings.tls_cert and not settings.insecure_lan:
        text = (
            f"{where}, where keys and texts would travel in the open; give tls_cert and tls_key, "
            "use 127.0.0.1 and let ssh carry it, or say --insecure-lan"
        )
        raise _refusal(text, settings)


def _is_near(url: str) -> bool:
    """Whether it is plain HTTP to this machine: texts are not sent anywhere else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname in LOOPBACK and port is not None


def _refusal(text: str, settings: GatewaySettings) -> HotseatError:
    return HotseatError("invalid_config", text, host=settings.host)
