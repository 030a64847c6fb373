"""What the fake daemon answers to kinds that read: one of everything."""

import msgspec

from hotseat.protocol.messages import (
    ClientMessage,
    Models,
    Plan,
    Quote,
    Release,
    SessionDelete,
    Sessions,
    Status,
    Why,
)
from hotseat.protocol.replies import Cause, SwapMemory, SwapPhases, SwapReport
from hotseat.protocol.views import (
    FitView,
    MemoryView,
    ModelView,
    PlanView,
    QueueView,
    QuoteView,
    ReleaseView,
    RequestView,
    SessionView,
    StandbyView,
    StatusView,
    WhyView,
    WorkerView,
)

MIB = 1024 * 1024
WORDS = ("The ", "capital ", "of ", "France ", "is ", "Paris", ".")
MODELS = (
    ModelView(
        name="smol",
        state="seated",
        architecture="llama",
        quantisation="4-bit g32",
        parameters=134_515_008,
        weights_bytes=92 * MIB,
        context_tokens=8192,
        kv_bytes_per_token=46_080,
        append="exact",
        licence="Apache-2.0",
        path="/models/smol",
    ),
    ModelView(
        name="gemma", state="ready", append="raw", weights_bytes=300 * MIB, context_tokens=32_768
    ),
    ModelView(name="mamba", state="unfit", reason="recurrent state cannot be kept on SSD yet"),
)
SESSION = SessionView(
    model="smol",
    session="agent",
    turn=2,
    tokens=600,
    durable_tokens=512,
    state="cold",
    bytes_on_disk=27 * MIB,
    created_at=1_700_000_000.0,
    used_at=1_700_000_600.0,
    messages=({"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}),
)
PLAN = PlanView(
    model="smol",
    fits=True,
    total_bytes=24 * 1024 * MIB,
    reserve_bytes=4 * 1024 * MIB,
    available_bytes=16 * 1024 * MIB,
    limit_bytes=15 * 1024 * MIB,
    binding="working set",
    weights_bytes=92 * MIB,
    kv_budget_bytes=12 * 1024 * MIB,
    kv_bytes_per_token=46_080,
    context_tokens=8192,
    max_context_tokens=8192,
    sessions=(FitView(context_tokens=4096, sessions=68, bytes_per_session=180 * MIB),),
    holders=(("browser", 2 * 1024 * MIB),),
)

QUOTES = (
    QuoteView(
        model="gemma",
        fits=True,
        queue_s=2.0,
        swap_s=1.5,
        restore_s=0.25,
        prefill_s=0.25,
        prompt_tokens=600,
        stored_tokens=512,
    ),
    QuoteView(model="mamba", fits=False, reason="recurrent state cannot be kept on SSD yet"),
    QuoteView(model="never", fits=True, restore_s=0.0, prefill_s=0.0),
    QuoteView(model="smol", fits=True, seated=True, swap_s=0.0, restore_s=0.0, prefill_s=0.5),
)
RELEASE = ReleaseView(
    released="smol",
    sessions_checkpointed=2,
    bytes_written=5 * MIB,
    total_s=1.2,
    available_before=8 * 1024 * MIB,
    available_after=9 * 1024 * MIB,
)
SWAPS = (
    WhyView(
        at=1_700_000_000.0,
        outcome="failed",
        origin="smol",
        target="gemma",
        client="explorer[7]",
        request_id="r2",
        model_asked="gemma",
        total_s=3.5,
        reason="weights are damaged",
    ),
    WhyView(
        at=1_699_999_000.0,
        outcome="finished",
        origin=None,
        target="smol",
        client="coder[8]",
        request_id="r1",
        model_asked="smol",
        total_s=1.7,
        bytes_written=5 * MIB,
        sessions_checkpointed=2,
    ),
)


def swap_report(model: str, before: str | None = "smol") -> SwapReport:
    return SwapReport(
        from_=before,
        to=model,
        mode="process",
        cause=Cause(client="tests", request_id="r", model_asked=model),
        phases=SwapPhases(drain_s=0.1, checkpoint_s=0.2, stop_s=0.3, load_s=1.0, warm_s=0.1),
        total_s=1.7,
        memory=SwapMemory(available_before=8 * 1024 * MIB, available_after=9 * 1024 * MIB),
        sessions_checkpointed=2,
        bytes_written=5 * MIB,
    )


def status_view(instance: str, pid: int) -> StatusView:
    return StatusView(
        running=True,
        phase="ready",
        model="smol",
        epoch=3,
        worker=WorkerView(pid=4242, footprint_bytes=400 * MIB),
        standby=StandbyView(pid=4343, ready=True, footprint_bytes=96 * MIB),
        queue=QueueView(running=1, waiting=1, suspended=1, models=("gemma",)),
        memory=MemoryView(total_bytes=24 * 1024 * MIB, available_bytes=16 * 1024 * MIB),
        uptime_s=75.0,
        version="0.1.0",
        instance=instance,
        pid=pid,
        requests=(
            RequestView(
                id="abc",
                client="tests",
                model="smol",
                session="agent",
                state="running",
                position=0,
                age_s=1.5,
                completion_tokens=12,
            ),
            RequestView(
                id="def",
                client="tests",
                model="gemma",
                session=None,
                state="suspended",
                position=1,
                age_s=9.5,
                completion_tokens=40,
            ),
        ),
        sessions_live=1,
        sessions_total=2,
    )


def answer_read(message: ClientMessage, instance: str, pid: int) -> dict:  # noqa: PLR0911
    """The result of a kind that has one reply."""
    match message:
        case Status():
            return msgspec.to_builtins(status_view(instance, pid))
        case Models():
            return {"models": msgspec.to_builtins(MODELS)}
        case Sessions(session=None):
            return {"sessions": msgspec.to_builtins((SESSION,))}
        case Sessions():
            return msgspec.to_builtins(SESSION)
        case Plan():
            return msgspec.to_builtins(PLAN)
        case SessionDelete():
            return {"removed_bytes": SESSION.bytes_on_disk}
        case Release(for_s=for_s):
            until = None if for_s is None else 1_700_000_000.0 + for_s
            return msgspec.to_builtins(msgspec.structs.replace(RELEASE, until=until))
        case Quote(models=names):
            return {"quotes": msgspec.to_builtins([q for q in QUOTES if q.model in names])}
        case Why(limit=limit):
            return {"swaps": msgspec.to_builtins(SWAPS[:limit])}
        case _:
            raise AssertionError(message)
