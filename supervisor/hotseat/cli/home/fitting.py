"""Plans that need no daemon: of this machine, by this home's settings and figures."""

import sys
import time
from collections.abc import Callable, Sequence

from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import PlanView
from hotseat.supervisor.daemon.kept_figures import read_disk_rate
from hotseat.supervisor.machine.figures import Holder
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.prefill import as_fed_on
from hotseat.supervisor.settings.placed_home import open_home

Fits = Callable[[ModelRecord], PlanView]


def planning_here(
    working_set_bytes: int | None, *, in_any_case: bool = True, holders: Sequence[Holder] = ()
) -> Fits:
    """Plans any record; `in_any_case`: what other programs hold now does not count."""
    home, settings = open_home()
    machine = system_probe().machine()
    rate = read_disk_rate(home.catalogue).known(time.time())

    def fits(record: ModelRecord) -> PlanView:
        return plan_model(
            as_fed_on(record, sys.platform),
            machine,
            settings,
            working_set_bytes=working_set_bytes,
            holders=holders,
            in_any_case=in_any_case,
            read_rate=rate,
        )

    return fits
