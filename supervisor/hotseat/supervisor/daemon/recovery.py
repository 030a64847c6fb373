"""The first thing a daemon does: finds what its last run left, and says what became of it.

Nothing is decided here: rows are committed whole or not at all, so a step that was under way is
either done or undone by them. Must not start anything.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from hotseat.protocol import failpoints
from hotseat.protocol.views import RecoveryView
from hotseat.supervisor.catalogue.rows import RequestRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.rules.last_run import LastRun, read_last_run
from hotseat.supervisor.events.log import EventLog

JOURNAL_TAIL: Final = 400
"""Entries to look at: a run that did more than this since its last swap began is not swapping."""
Settle = Callable[[float], Awaitable[list[RequestRow]]]


async def recover(catalogue: Catalogue, settle: Settle) -> RecoveryView:
    """Ends or keeps what was accepted; what it returns is a part of status.

    `settle` ends what cannot go on and returns all requests that had not ended.
    """
    began = time.monotonic()
    if failpoints.ARMED:
        failpoints.reach("recovery.begun")
    last_seq = await catalogue.last_seq()
    tail = await catalogue.journal_since(max(0, last_seq - JOURNAL_TAIL), JOURNAL_TAIL)
    run = read_last_run(tail)
    rows = await settle(began)
    return RecoveryView(
        after=run.after,
        phase=run.phase,
        model=run.model,
        undone=tuple(undone_steps(run, rows)),
        kept_requests=sum(row.kind == "generate" for row in rows),
        seconds=round(time.monotonic() - began, 4),
    )


def announce(view: RecoveryView, events: EventLog) -> None:
    """The same as an event, for log and journal."""
    events.publish(
        "daemon.recovered",
        after=view.after,
        phase=view.phase,
        model=view.model,
        undone=list(view.undone),
        kept_requests=view.kept_requests,
        seconds=view.seconds,
    )


def undone_steps(run: LastRun, rows: list[RequestRow]) -> list[str]:
    """What was begun and counts as never having happened, a sentence each."""
    if run.after != "kill":
        return []
    steps = []
    if run.is_swapping:
        steps.append(
            f"swap {run.origin or 'nothing'} -> {run.target or 'nothing'} in phase {run.phase}"
            f" (asked by {run.client or 'hotseat'}, request {run.request_id or '-'})"
        )
    elif run.phase != "empty":
        steps.append(f"{run.model or 'no model'} held the seat in phase {run.phase}")
    told = {run.request_id} if run.is_swapping else set()
    steps += [
        f"swap to {row.model} (request {row.request_id}) that was accepted"
        for row in rows
        if row.kind == "swap" and row.request_id not in told
    ]
    return steps
