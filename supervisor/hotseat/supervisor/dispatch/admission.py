"""Whether a request may run at all, and on which model: aliases, policies, plans.

Decides nothing about when. Must not know sessions or sockets.
"""

import time
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.rules.swap_rights import check_swap_allowed
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.settings.values import SwapPolicy

log = structlog.get_logger()
_STRICTNESS: tuple[SwapPolicy, ...] = ("auto", "wait", "never")


class Admission:
    """Answers with the record of a model, or raises the typed refusal."""

    def __init__(
        self,
        planner: Planner,
        own_footprint: Callable[[], int],
    ) -> None:
        self._planner = planner
        self._own_footprint = own_footprint
        self.dispatcher: Dispatcher | None = None
        """Introduced later."""
        self.refuse_new: Callable[[], None] = lambda: None
        """Raises while nothing new may begin; the guard's."""

    def model(self, name: str) -> ModelRecord:
        """The record of a model that can be seated."""
        return self._planner.check(name, own_footprint_bytes=self._own_footprint())

    def request(self, request: Generate) -> ModelRecord:
        """The record of the model a request names, if it may run at all."""
        self.refuse_new()
        registry = self._planner.registry
        seated, name = registry.seated(), registry.resolve(request.model)
        record = registry.get(name) if name == seated else self.model(name)
        assert self.dispatcher is not None  # noqa: S101 - introduced before any message
        released_s = self.dispatcher.releases.refuses(time.time())
        allowed = replace(request, swap=self.policy(request, record.name))
        check_swap_allowed(allowed, record.name, seated, released_s)
        return record

    def seat_at_start(self, name: str | None) -> tuple[str, ...]:
        """Seats what the settings ask for; a model that cannot be is told, and keeps nobody out."""
        if name is None:
            return ()
        assert self.dispatcher is not None  # noqa: S101 - introduced before the start
        try:
            self.dispatcher.seat_by_itself(self.model(name).name, "at_start")
        except HotseatError as error:
            log.warning("seat.not_taken", model=name, code=error.code, reason=error.message)
            return (f"seat.at_start: {error.message}",)
        return ()

    def policy(self, request: Generate, model: ModelName) -> SwapPolicy:
        """The stricter of what the request and the settings of its model say."""
        chosen = self._planner.settings.model(model).swap
        return max(request.swap, chosen, key=_STRICTNESS.index)

    def filled(self, request: Generate, model: ModelName, *, begins: bool) -> Generate:
        """The request with the model's defaults where it says nothing itself.

        Template arguments are fixed by the first turn of a session: later turns keep those.
        """
        chosen = self._planner.settings.model(model)
        request = replace(request, sampling=chosen.sampling.fill(request.sampling))
        is_chat = request.messages is not None or isinstance(request.append, tuple)
        if begins and is_chat and request.template_args is None and chosen.template_args:
            return replace(request, template_args=dict(chosen.template_args))
        return request
