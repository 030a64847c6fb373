"""What the gateway of the home is told by the settings and by the command line."""

import importlib.util
from typing import TYPE_CHECKING, Final

from hotseat.cli.terminal.failures import MissingExtraError
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.http_values import HttpSettings
from hotseat.supervisor.settings.reader import load_settings

if TYPE_CHECKING:
    from hotseat.gateway.settings import GatewaySettings

_NEEDED: Final = ("starlette", "uvicorn", "h11", "prometheus_client")


def need_http_extra() -> None:
    """Raises MissingExtraError where the gateway cannot run."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        text = f"the gateway needs {', '.join(missing)}: pip install 'hotseat[http]'"
        raise MissingExtraError(text)


def read_http_settings() -> HttpSettings:
    """`[http]` of the home."""
    return load_settings(Home.find().config).http


def gateway_settings(
    http: HttpSettings,
    *,
    host: str | None = None,
    port: int | None = None,
    open_loopback: bool = False,
    insecure_lan: bool = False,
) -> "GatewaySettings":
    """What was typed counts more than what the file says."""
    from hotseat.gateway.settings import AgentPolicy, GatewaySettings

    return GatewaySettings(
        host=host or http.host,
        port=port or http.port,
        open_loopback=open_loopback or http.open_loopback,
        insecure_lan=insecure_lan,
        hosts=http.hosts,
        origins=http.origins,
        tls_cert=http.tls_cert,
        tls_key=http.tls_key,
        hold_s=http.hold_s,
        keep_days=http.keep_days,
        parts=http.parts,
        progress=http.progress,
        embeddings_url=http.embeddings_url,
        agents={
            product.lower(): AgentPolicy(priority=one.priority, hold_s=one.hold_s, swap=one.swap)
            for product, one in http.agents.items()
        },
    )
