"""How seat, worker, queue, memory and swaps look to a person."""

import time

import msgspec

from hotseat.cli.terminal.output import count, duration, note, print_facts, print_table, size
from hotseat.cli.views.ps import quarantine_lines, readiness
from hotseat.cli.views.streamed import streamed_line
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.replies import SwapReport
from hotseat.protocol.telemetry import MemoryPages
from hotseat.protocol.version import VERSION
from hotseat.protocol.views import (
    GatewayView,
    MemoryView,
    QueueView,
    RecoveryView,
    ReleaseView,
    StandbyView,
    StatusView,
    WorkerView,
)


def absent_status(error: DaemonUnreachable) -> StatusView:
    """A status that says "not running" in the shape of every other status."""
    from hotseat.supervisor.machine.memory import system_probe

    memory = system_probe().machine()
    return StatusView(
        running=False,
        phase="stopped",
        model=None,
        epoch=0,
        worker=WorkerView(),
        standby=StandbyView(),
        queue=QueueView(),
        memory=MemoryView(
            total_bytes=memory.total_bytes,
            available_bytes=memory.available_bytes,
            wired_bytes=memory.wired_bytes,
            pages=memory.pages,
        ),
        uptime_s=0.0,
        version=VERSION,
        last_error=error.message,
    )


def render_status(view: StatusView) -> None:
    """A few aligned lines."""
    if not view.running:
        note(view.last_error)
        return
    print_facts(
        [
            ("seat", _seat_line(view)),
            ("swap", _swap_line(view)),
            ("released", _released_line(view)),
            ("weights", streamed_line(view.streamed)),
            ("worker", _worker_line(view.worker)),
            ("standby", _standby_line(view.standby)),
            ("queue", _queue_line(view.queue)),
            ("sessions", f"{view.sessions_live} live of {view.sessions_total}"),
            ("memory", _memory_line(view.memory)),
            ("pages", _pages_line(view.memory.pages)),
            ("KV on SSD", _disk_line(view)),
            ("HTTP", _gateway_line(view.gateway)),
            ("daemon", f"{view.version}, pid {view.pid}, up {duration(view.uptime_s)}"),
            ("awake", _awake_line(view)),
            ("last run", _recovery_line(view.recovery)),
            ("GPU errors", str(view.gpu_errors) if view.gpu_errors else ""),
            ("last error", view.last_error),
            *quarantine_lines(view),
            *(("notice", text) for text in view.notices),
        ]
    )


def _gateway_line(gateway: GatewayView | None) -> str:
    if gateway is None:
        return ""
    why = f": {gateway.reason}" if gateway.reason else ""
    pid = f", pid {gateway.pid}" if gateway.pid is not None else ""
    return f"{gateway.address}, {gateway.state}{pid}{why}"


def render_queue(view: StatusView) -> None:
    """One row per request."""
    if not view.running:
        note(view.last_error)
        return
    if not view.requests:
        print("no requests")
        return
    print_table(
        ("ID", "STATE", "MODEL", "SESSION", "CLIENT", "AGE ", "TOKENS "),
        [
            (
                request.id,
                request.state,
                request.model,
                request.session or "-",
                request.client,
                duration(request.age_s),
                count(request.completion_tokens),
            )
            for request in view.requests
        ],
    )


def render_swap(report: SwapReport) -> None:
    """One summary line."""
    if report.mode == "none":
        print(f"{report.to} is seated already")
        return
    phases = msgspec.structs.asdict(report.phases)
    spent = ", ".join(
        f"{name.removesuffix('_s')} {seconds:.1f} s" for name, seconds in phases.items() if seconds
    )
    origin = f"{report.from_} -> " if report.from_ else ""
    print(
        f"{origin}{report.to} in {report.total_s:.1f} s ({report.mode}: {spent}); "
        f"{report.sessions_checkpointed} sessions checkpointed, {size(report.bytes_written)} "
        f"written; available {size(report.memory.available_before)} -> "
        f"{size(report.memory.available_after)}"
    )
    if report.memory.wired_not_back_bytes:
        note(
            f"the system still has {size(report.memory.wired_not_back_bytes)} wired that the "
            "worker before had; if that grows from swap to swap, restart the Mac"
        )


def render_release(view: ReleaseView) -> None:
    """One summary line, and how long the seat stays empty."""
    if view.released is None:
        print("the seat was empty already")
    else:
        print(
            f"{view.released} gave the seat up in {view.total_s:.1f} s; "
            f"{view.sessions_checkpointed} sessions checkpointed, {size(view.bytes_written)} "
            f"written; available {size(view.available_before)} -> {size(view.available_after)}"
        )
    if view.until is not None:
        until = _clock(view.until)
        print(f"requests leave it empty until {until}; `hotseat swap MODEL` takes it back")


def _seat_line(view: StatusView) -> str:
    seated = f"{view.model} for {duration(view.seated_for_s)}" if view.model else "no model"
    return f"{view.phase}, {seated}, epoch {view.epoch}"


def _swap_line(view: StatusView) -> str:
    if view.swap is None:
        return ""
    percent = f" {view.swap.percent:.0f} %" if view.swap.percent is not None else ""
    origin = view.swap.from_ or "nothing"
    move = f"{origin} -> {view.swap.to or 'nothing'}"
    return f"{move}: {view.swap.phase}{percent}, {duration(view.swap.elapsed_s)}"


def _released_line(view: StatusView) -> str:
    if view.released_until is None:
        return ""
    return f"requests leave the seat empty until {_clock(view.released_until)}; a swap takes it"


def _awake_line(view: StatusView) -> str:
    return f"kept from idle sleep: {view.keeps_awake}" if view.keeps_awake else ""


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _recovery_line(found: RecoveryView | None) -> str:
    """Only a run that did not end in order is news."""
    if found is None or found.after != "kill":
        return ""
    undone = f"; undone: {', '.join(found.undone)}" if found.undone else ""
    kept = f"; {found.kept_requests} requests kept" if found.kept_requests else ""
    return f"was killed{undone}{kept}"


def _worker_line(worker: WorkerView) -> str:
    if worker.pid is None:
        return "none"
    parts = [f"pid {worker.pid}"]
    if worker.footprint_bytes is not None:
        parts.append(f"footprint {size(worker.footprint_bytes)}")
    if worker.live_kv_bytes is not None:
        parts.append(f"live KV {size(worker.live_kv_bytes)}")
    return ", ".join(parts)


def _standby_line(standby: StandbyView) -> str:
    if standby.pid is None:
        return "none"
    parts = (f"pid {standby.pid}", readiness(standby), size(standby.footprint_bytes))
    return ", ".join(part for part in parts if part)


def _queue_line(queue: QueueView) -> str:
    waiting = f"{queue.running} running, {queue.waiting} waiting"
    details = [f"{queue.suspended} of them suspended"] if queue.suspended else []
    if queue.models:
        details.append(f"next: {', '.join(queue.models)}")
    return f"{waiting} ({'; '.join(details)})" if details else waiting


def _memory_line(memory: MemoryView) -> str:
    line = f"{size(memory.available_bytes)} of {size(memory.total_bytes)} available"
    if memory.kv_budget_bytes is not None:
        line += f", KV budget {size(memory.kv_budget_bytes)}"
    if memory.shedding:
        line += f"; short of memory ({memory.shedding})"
    return line


def _pages_line(pages: MemoryPages | None) -> str:
    """In the words of Activity Monitor: what programs have, and what makes the rest available."""
    if pages is None:
        return ""
    programs = max(pages.anonymous_bytes - pages.purgeable_bytes, 0)
    cached = pages.file_backed_bytes + pages.purgeable_bytes
    parts = {
        "programs": programs,
        "wired": pages.wired_bytes,
        "compressed": pages.compressed_bytes,
        "cached": cached,
        "free": pages.free_bytes,
    }
    return ", ".join(f"{name} {size(held)}" for name, held in parts.items())


def _disk_line(view: StatusView) -> str:
    return f"{size(view.memory.kv_disk_bytes)}, {size(view.bytes_written)} written since start"
