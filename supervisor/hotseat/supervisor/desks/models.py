"""Answers about models: which there are, what they are good for now, what of one would fit."""

import asyncio
import time

from hotseat.protocol.messages import Plan
from hotseat.protocol.views import ModelView, PlanView
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.rules.table import quarantine_of
from hotseat.supervisor.seat.seat import Seat


class ModelDesk:
    """Reads; changes nothing."""

    def __init__(self, planner: Planner, seat: Seat) -> None:
        self._planner = planner
        self._seat = seat

    def models(self) -> list[ModelView]:
        """All registered models with what they are good for now."""
        registry, now = self._planner.registry, time.monotonic()
        state = self._seat.state
        views = []
        for record in registry.records():
            view = registry.view(record)
            if view.state == "ready":
                if self._seat.seated == record.name:
                    view = registry.view(record, state="seated")
                elif (misses := quarantine_of(state, record.name, now)) is not None:
                    reason = f"{misses.reason}; tried again in {misses.until - now:.0f} s"
                    view = registry.view(record, state="quarantined", reason=reason)
                else:
                    plan = self._planner.plan_asked(record)
                    if not plan.fits:
                        view = registry.view(record, state="unfit", reason=plan.reason)
            views.append(view)
        return sorted([*views, *registry.damaged()], key=lambda view: view.name)

    async def plan(self, message: Plan) -> PlanView:
        """The memory plan of a model, without touching the seat."""
        record = self._planner.registry.get(message.model)
        if message.ram_bytes is not None or message.working_set_bytes is not None:
            return self._planner.plan_elsewhere(
                record, message.ram_bytes, message.working_set_bytes
            )
        return await asyncio.to_thread(self._planner.plan_asked, record, with_holders=True)
