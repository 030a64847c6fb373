"""Who answers clients, beside those who take their requests."""

from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.assembly.watching import Watching
from hotseat.supervisor.daemon.reload import Reloads
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.models import ModelDesk
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.session_list import SessionList
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.status import StatusDesk
from hotseat.supervisor.desks.subscriptions import Subscriptions
from hotseat.supervisor.kv.checking import KvChecks


class Desks:
    """Each answers one kind of question."""

    def __init__(
        self, ground: Ground, requests: Requests, dispatch: Dispatch, watching: Watching
    ) -> None:
        planner, seat, works, keeper = ground.planner, ground.seat, requests.works, requests.keeper
        catalogue, sessions, registry = ground.catalogue, requests.sessions, planner.registry
        self.status = StatusDesk(
            identity=ground.identity,
            works=works,
            runner=dispatch.runner,
            planner=planner,
            keeper=keeper,
            figures=ground.figures,
            releases=dispatch.releases,
            idle=dispatch.idle,
        )
        self.subscriptions = Subscriptions(
            ground.port, ground.events, watching.feed, self.status.status_dict
        )
        self.models = ModelDesk(planner, seat)
        self.session_list = SessionList(works, sessions, registry, seat)
        self.sessions = SessionDesk(
            works, sessions, catalogue, keeper, ground.events, registry, seat
        )
        self.counter = Counter(sessions, catalogue, planner, seat, dispatch.runner.prompts)
        self.quotes = QuoteDesk(
            catalogue=catalogue,
            sessions=sessions,
            planner=planner,
            seat=seat,
            admission=dispatch.admission,
            dispatcher=dispatch.dispatcher,
            releases=dispatch.releases,
            counter=self.counter,
        )
        self.kv = KvChecks(catalogue, keeper, watching.disk, ground.events, ground.home.kv_dir)
        watches = watching.watches
        self.reloads = Reloads(
            home=ground.home,
            planner=planner,
            seat=seat,
            dispatcher=dispatch.dispatcher,
            events=ground.events,
            holders=(
                planner,
                requests.outbox,
                requests.quiet,
                dispatch.runner,
                dispatch.dispatcher,
                dispatch.idle,
                dispatch.contexts,
                watching.disk,
                watches.stalls,
                watches.memory,
                watches.power,
                watching.gateway,
            ),
        )
