"""The whole daemon, put together bottom to top: every part gets what it needs when it is made."""

from msgspec import Struct

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.assembly.answers import make_answerers
from hotseat.supervisor.daemon.assembly.dispatch import Dispatch, make_dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground, lay_ground
from hotseat.supervisor.daemon.assembly.requests import Requests, make_requests
from hotseat.supervisor.daemon.assembly.watching import Watching, make_watching
from hotseat.supervisor.daemon.router import Router
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings


class DaemonParts(Struct, frozen=True, kw_only=True):
    """The whole daemon, not yet alive."""

    ground: Ground
    requests: Requests
    dispatch: Dispatch
    watching: Watching
    kv: KvChecks
    router: Router


def assemble(home: Home, settings: Settings, catalogue: Catalogue, version: str) -> DaemonParts:
    """All parts of one daemon."""
    ground = lay_ground(home, settings, catalogue, version)
    requests = make_requests(ground)
    dispatch = make_dispatch(ground, requests)
    watching = make_watching(ground, requests, dispatch)
    kv = KvChecks(
        catalogue=catalogue,
        keeper=requests.keeper,
        tier=watching.disk,
        events=ground.events,
        kv_dir=home.kv_dir,
    )
    answerers = make_answerers(ground, requests, dispatch, watching, kv)
    router = Router(answerers, ground.port, dispatch.life, dispatch.rhythm)
    return DaemonParts(
        ground=ground,
        requests=requests,
        dispatch=dispatch,
        watching=watching,
        kv=kv,
        router=router,
    )
