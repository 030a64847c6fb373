"""What the journal says about the daemon's last run: how it ended, and what was under way. Pure."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from hotseat.protocol.replies import Event
from hotseat.supervisor.seat.rules.states import SETTLED, Phase

_SETTLED = frozenset(phase.value for phase in SETTLED)


class LastRun(Struct, frozen=True, kw_only=True):
    """`after` is how it ended. `target` is set when a swap was under way in `phase`."""

    after: Literal["nothing", "stop", "kill"] = "nothing"
    phase: str = Phase.EMPTY.value
    model: str | None = None
    """Seated, or being seated."""
    is_swapping: bool = False
    origin: str | None = None
    target: str | None = None
    client: str = ""
    request_id: str = ""


def read_last_run(journal: Iterable[Event]) -> LastRun:
    """The last run in a journal, oldest event first.

    A run that ended in order says that it stops and then that its seat is empty; every other end
    counts as a kill, whatever the reason was.
    """
    is_known = is_stopping = False
    run = LastRun()
    for event in journal:
        facts = event.facts
        match event.name:
            case "daemon.started":
                is_known, is_stopping, run = True, False, LastRun()
            case "daemon.stopping":
                is_known = is_stopping = True
            case "swap.started":
                run = LastRun(
                    phase=run.phase,
                    model=run.model,
                    is_swapping=True,
                    origin=facts.get("origin"),
                    target=facts.get("target"),
                    client=str(facts.get("client", "")),
                    request_id=str(facts.get("request", "")),
                )
            case "seat.phase_changed":
                is_known = True
                run = _in_phase(run, str(facts.get("phase", "")), facts.get("model"))
            case _:
                pass
    if not is_known:
        return run
    is_clean = is_stopping and run.phase in _SETTLED
    return LastRun(
        after="stop" if is_clean else "kill",
        phase=run.phase,
        model=run.model,
        is_swapping=run.is_swapping,
        origin=run.origin,
        target=run.target,
        client=run.client,
        request_id=run.request_id,
    )


def _in_phase(run: LastRun, phase: str, model: str | None) -> LastRun:
    if phase in _SETTLED:
        return LastRun(phase=phase, model=model)
    return LastRun(
        phase=phase,
        model=model,
        is_swapping=run.is_swapping,
        origin=run.origin,
        target=run.target,
        client=run.client,
        request_id=run.request_id,
    )
