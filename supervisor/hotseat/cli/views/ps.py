"""How models that are seated, asked for or kept from the seat look to a person."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import Struct

from hotseat.cli.terminal.output import count, duration, note, print_table, size
from hotseat.protocol.views import ModelView, SessionView, StandbyView, StatusView

if TYPE_CHECKING:
    from hotseat.client.brief import BriefClient

MINUTE: Final = 60.0


class SeatRow(Struct, frozen=True, kw_only=True):
    """A model that is seated, is being seated, or is asked for."""

    name: str
    state: str
    """The seat's phase for the model it belongs to, else `waiting` or `suspended`."""
    size_bytes: int | None = None
    """Measured for a worker, the weights for a model that waits."""
    context_tokens: int = 0
    sessions_live: int = 0
    sessions_cold: int = 0
    running: int = 0
    waiting: int = 0
    until: float | None = None
    """Unix time at which it gives the seat up if nobody asks for it."""
    in_use: bool = False


class PsAnswers(Struct, frozen=True, kw_only=True):
    """What `ps` asks the daemon for."""

    status: StatusView
    models: tuple[ModelView, ...] = ()
    sessions: tuple[SessionView, ...] = ()


def look(client: "BriefClient") -> PsAnswers:
    """Three questions; none changes anything."""
    return PsAnswers(
        status=client.status(), models=tuple(client.models()), sessions=tuple(client.sessions())
    )


def seat_rows(seen: PsAnswers) -> list[SeatRow]:
    """The seated model first, then those that wait, in the order they get the seat."""
    view = seen.status
    queued = (*view.queue.models, *(request.model for request in view.requests))
    names = dict.fromkeys(name for name in (view.model, *queued) if name)
    return [_row(name, seen) for name in names]


def ps_facts(seen: PsAnswers) -> dict[str, Any]:
    """What `ps --json` prints."""
    view = seen.status
    return {
        "running": view.running,
        "phase": view.phase,
        "model": view.model,
        "epoch": view.epoch,
        "seated_for_s": view.seated_for_s,
        "worker": msgspec.to_builtins(view.worker),
        "standby": msgspec.to_builtins(view.standby),
        "suspended": view.queue.suspended,
        "sessions_live": view.sessions_live,
        "sessions_total": view.sessions_total,
        "models": msgspec.to_builtins(seat_rows(seen)),
    }


def render_ps(seen: PsAnswers) -> None:
    """A row for each such model, and one for the standby if there is one."""
    view = seen.status
    if not view.running:
        note(view.last_error)
        return
    rows = [_cells(row, view) for row in seat_rows(seen)]
    if not rows:
        rows.append(("-", view.phase, *["-"] * 5))
    if view.standby.pid is not None:
        rows.append(_standby_cells(view.standby))
    print_table(
        ("NAME", "STATE", "SIZE ", "CONTEXT ", "SESSIONS ", "QUEUE ", "UNTIL"),
        rows,
        first_shrinks=True,
    )


def _row(name: str, seen: PsAnswers) -> SeatRow:
    view = seen.status
    model = next((entry for entry in seen.models if entry.name == name), None)
    states = Counter(entry.state for entry in view.requests if entry.model == name)
    weights_bytes = model.weights_bytes if model else None
    mine = [entry for entry in seen.sessions if entry.model == name]
    live = sum(entry.state != "cold" for entry in mine)
    is_seated = name == view.model
    waits: Literal["waiting", "suspended"] = "suspended" if states["suspended"] else "waiting"
    return SeatRow(
        name=name,
        state=view.phase if is_seated else waits,
        size_bytes=view.worker.footprint_bytes if is_seated else weights_bytes,
        context_tokens=model.context_tokens if model else 0,
        sessions_live=live,
        sessions_cold=len(mine) - live,
        running=states["running"],
        waiting=states["waiting"] + states["suspended"],
        until=view.seated_until if is_seated else None,
        in_use=bool(states["running"]),
    )


def _cells(row: SeatRow, view: StatusView) -> tuple[str, ...]:
    return (
        row.name,
        row.state,
        size(row.size_bytes) or "-",
        count(row.context_tokens) if row.context_tokens else "-",
        f"{row.sessions_live}/{row.sessions_cold}",
        f"{row.running}+{row.waiting}" if row.waiting else str(row.running),
        _until(row, view),
    )


def _until(row: SeatRow, view: StatusView) -> str:
    """When the seat is given up for being idle."""
    if row.name != view.model or view.phase != "ready":
        return "-"
    if row.until is None:
        return "in use" if row.in_use else "pinned"
    left_s = max(0.0, row.until - time.time())
    return f"in {left_s / MINUTE:.0f} min" if left_s >= MINUTE else f"in {left_s:.0f} s"


def _standby_cells(standby: StandbyView) -> tuple[str, ...]:
    return ("(standby)", readiness(standby), size(standby.footprint_bytes) or "-", *["-"] * 4)


def readiness(standby: StandbyView) -> str:
    """In a word."""
    return "ready" if standby.ready else "starting"


def quarantine_lines(view: StatusView) -> Sequence[tuple[str, str]]:
    """Models that requests do not seat, with the reason and when that ends."""
    return [
        (
            "quarantined",
            f"{entry.model}: {entry.reason}; "
            + (
                f"`hotseat swap {entry.model}` seats it"
                if entry.retry_in_s is None
                else f"tried again in {duration(entry.retry_in_s)}"
            ),
        )
        for entry in view.quarantined
    ]
