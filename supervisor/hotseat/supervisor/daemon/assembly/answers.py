"""Puts together what answers clients: the desks, the verbs of sessions, reading settings again."""

from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.assembly.watching import Watching
from hotseat.supervisor.daemon.reload import Reloads
from hotseat.supervisor.daemon.router import Answerers
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.models import ModelDesk
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.session_list import SessionList
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.status import StatusDesk
from hotseat.supervisor.desks.subscriptions import Subscriptions
from hotseat.supervisor.kv.checking import KvChecks


def make_answerers(
    ground: Ground, requests: Requests, dispatch: Dispatch, watching: Watching, kv: KvChecks
) -> Answerers:
    """The parts that answer clients, for the router."""
    works, planner, seat = requests.works, ground.planner, ground.seat
    status = StatusDesk(
        identity=ground.identity,
        works=works,
        runner=dispatch.runner,
        planner=planner,
        keeper=requests.keeper,
        figures=ground.figures,
        releases=dispatch.releases,
        idle=dispatch.idle,
    )
    counter = Counter(
        sessions=requests.sessions,
        catalogue=ground.catalogue,
        planner=planner,
        seat=seat,
        prompts=dispatch.runner.prompts,
    )
    return Answerers(
        works=works,
        runs=requests.runs,
        outbox=requests.outbox,
        acceptor=dispatch.acceptor,
        swaps=dispatch.swaps,
        releases=dispatch.releases,
        dispatcher=dispatch.dispatcher,
        status=status,
        subscriptions=Subscriptions(ground.port, ground.events, watching.feed, status.status_dict),
        models=ModelDesk(planner, seat),
        session_list=SessionList(works, requests.sessions, planner.registry, seat),
        sessions=make_session_desk(ground, requests),
        quotes=QuoteDesk(
            catalogue=ground.catalogue,
            sessions=requests.sessions,
            planner=planner,
            seat=seat,
            admission=dispatch.admission,
            dispatcher=dispatch.dispatcher,
            releases=dispatch.releases,
            counter=counter,
        ),
        counter=counter,
        disk=watching.disk,
        kv=kv,
        reloads=make_reloads(ground, requests, dispatch, watching),
    )


def make_session_desk(ground: Ground, requests: Requests) -> SessionDesk:
    """What clients do to sessions."""
    return SessionDesk(
        works=requests.works,
        sessions=requests.sessions,
        catalogue=ground.catalogue,
        keeper=requests.keeper,
        events=ground.events,
        registry=ground.planner.registry,
        seat=ground.seat,
    )


def make_reloads(
    ground: Ground, requests: Requests, dispatch: Dispatch, watching: Watching
) -> Reloads:
    """New settings, and everybody who keeps some."""
    watches = watching.watches
    return Reloads(
        home=ground.home,
        planner=ground.planner,
        seat=ground.seat,
        dispatcher=dispatch.dispatcher,
        events=ground.events,
        holders=(
            ground.planner,
            requests.outbox,
            requests.quiet,
            dispatch.runner,
            dispatch.dispatcher,
            dispatch.idle,
            watching.disk,
            watches.stalls,
            watches.memory,
            watches.power,
        ),
    )
