"""The memory plan of a model: what it may use, what is left for KV, what binds. Pure.

Numbers come in, numbers go out: nothing is measured here.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct, structs

from hotseat.protocol.limits import BLOCK_TOKENS, GIB, MIB
from hotseat.protocol.live_contexts import longest_alone, padded
from hotseat.protocol.model import STATES_HELD, ModelRecord
from hotseat.protocol.residence import WeightParts
from hotseat.protocol.streamed_contexts import LEAST_TOKENS_PER_S
from hotseat.protocol.views import FitView, PlanView
from hotseat.supervisor.machine.figures import Holder, MachineMemory
from hotseat.supervisor.models.rules.long_contexts import with_long_contexts
from hotseat.supervisor.models.rules.prefill import as_fed_on, prefill_peak_bytes
from hotseat.supervisor.models.rules.residence import (
    Seating,
    choose_residence,
    streamed_view,
    tokens_per_s,
    why_not,
)
from hotseat.supervisor.models.rules.room import margin_bytes, room_bytes
from hotseat.supervisor.models.rules.tight import Needs, Share, share_out
from hotseat.supervisor.models.rules.working_set import metal_working_set
from hotseat.supervisor.settings.values import Settings

DEFAULT_STANDBY_BYTES: Final = 80 * MIB
"""An idle process with the libraries imported, as measured."""
WORKING_SET_MARGIN_BYTES: Final = GIB
LEAST_TOKENS: Final = 2048
"""A model fits when one session of this length (or its whole context) has room."""
STREAMED_TOKENS: Final = 16_384
"""KV of one session of this length has room before more weights have. Alone it may be half as long:
a worker counts copies."""
_GROUP: Final = "group"
_AVAILABLE: Final = "available"
_CONTEXTS: Final = (4096, 8192, 16_384, 32_768)


class _Term(Struct, frozen=True):
    """One of the things that limit a plan; the smallest binds."""

    name: str
    size_bytes: int
    remedy: str


def plan_model(
    record: ModelRecord,
    machine: MachineMemory,
    settings: Settings,
    *,
    own_footprint_bytes: int = 0,
    standby_bytes: int = 0,
    overhead_bytes: int | None = None,
    overhead_measured: bool = False,
    working_set_bytes: int | None = None,
    holders: Sequence[Holder] = (),
    in_any_case: bool = False,
    read_rate: float | None = None,
) -> PlanView:
    """What `record` could use on this machine if the worker that is seated now were gone.

    `own_footprint_bytes` is what that worker would give back. `overhead_bytes` None stands for
    the default. `in_any_case`: what other programs hold now does not count. A model that does not
    fit whole is planned with a part of its weights, if the rest can be read as it is needed.
    `read_rate`: bytes a second that the disk gave when that was done last.
    """

    def planned(one: ModelRecord, *, in_any_case: bool = in_any_case) -> PlanView:
        return _plan_whole(
            one,
            machine,
            settings,
            own_footprint_bytes,
            standby_bytes,
            overhead_bytes,
            working_set_bytes,
            in_any_case=in_any_case,
        )

    # What is in memory depends on the machine and not on what others hold now: the gate waits for
    # the same that is loaded then.
    view = whole = planned(record, in_any_case=True)
    if not whole.fits and not record.unfit_reason and settings.memory.streaming == "auto":
        view = _plan_streamed(record, whole, planned, read_rate)
    elif not in_any_case:
        view = planned(record)
    if settings.memory.streaming == "auto":
        view = with_long_contexts(record, view, read_rate)
    return structs.replace(
        view,
        overhead_measured=overhead_measured,
        holders=tuple((holder.name, holder.size_bytes) for holder in holders),
    )


def _plan_streamed(
    record: ModelRecord,
    whole: PlanView,
    planned: Callable[..., PlanView],
    read_rate: float | None,
) -> PlanView:
    """The plan with a part of the weights in memory; the refusal, with the reason, if none fits."""
    if refused := why_not(record.parts, record.adapter):
        reason = f"{whole.reason}; it cannot be read as it is needed: {refused}"
        return structs.replace(whole, reason=reason)
    assert record.parts is not None  # noqa: S101 - else refused
    beside = whole.overhead_bytes + whole.standby_bytes + whole.prefill_peak_bytes
    view = whole
    for tokens in (STREAMED_TOKENS, LEAST_TOKENS):
        session = session_bytes(record, min(tokens, record.context_tokens))
        seating = choose_residence(record.parts, whole.limit_bytes - beside - session)
        if seating is None:
            continue
        resident = structs.replace(record, weights_bytes=seating.resident_bytes)
        if planned(resident, in_any_case=True).fits:
            speed = tokens_per_s(seating.step_bytes, read_rate)
            view = _as_streamed(record.parts, whole, planned(resident), seating, speed)
            if view.residence is not None:
                return view
    return view


def _as_streamed(
    parts: WeightParts, whole: PlanView, view: PlanView, seating: Seating, speed: float | None
) -> PlanView:
    """What is said of it; a refusal where the disk is known to be too slow."""
    reading = f"{_size(seating.step_bytes)} from the disk for a token at most"
    if speed is not None:
        reading += f" ({speed:.2g} tokens a second)"
        if speed < LEAST_TOKENS_PER_S:
            reason = (
                f"{whole.reason}; read as it is needed it would take {reading},"
                f" {LEAST_TOKENS_PER_S:g} a second are the least"
            )
            return structs.replace(whole, reason=reason)
    held = streamed_view(parts, seating.residence, seating.step_bytes, speed).words
    words = f"it does not fit whole: {held}, {reading}"
    return structs.replace(
        view,
        residence=seating.residence,
        step_bytes=seating.step_bytes,
        tokens_per_s=speed,
        notice="; ".join(part for part in (words, view.notice) if part),
    )


def _plan_whole(
    record: ModelRecord,
    machine: MachineMemory,
    settings: Settings,
    own_footprint_bytes: int,
    standby_bytes: int,
    overhead_bytes: int | None,
    working_set_bytes: int | None,
    *,
    in_any_case: bool,
) -> PlanView:
    """With all of `weights_bytes` in memory."""
    reserve = settings.memory.reserve_for(machine)
    terms = _terms(record, machine, settings, reserve, working_set_bytes)
    now = [] if in_any_case else [_available(machine, own_footprint_bytes)]
    binding = min([*terms, *now], key=lambda term: term.size_bytes)
    limit = max(binding.size_bytes, 0)
    peak = prefill_peak_bytes(record)
    free = limit - record.weights_bytes - peak
    lent = reserve if binding.name == _GROUP and _is_default(settings) else 0
    ahead = margin_bytes(machine, reserve) - peak if binding.name == _AVAILABLE else 0
    share = _shared(record, machine, free, overhead_bytes, standby_bytes, lent, ahead)
    room = share.room(free)
    limit += share.borrowed
    budget = max(min((room, *_kv_caps(record, settings))), 0)
    reason = record.unfit_reason or _shortage(
        record, _least_tokens(record, machine), budget, room, limit, share, peak, binding
    )
    return PlanView(
        model=record.name,
        fits=not reason,
        reason=reason,
        remedy="" if record.unfit_reason else _remedy(reason, budget, room, binding),
        total_bytes=machine.total_bytes,
        reserve_bytes=reserve,
        working_set_bytes=working_set_bytes,
        available_bytes=machine.available_bytes,
        limit_bytes=limit,
        binding=binding.name,
        weights_bytes=record.weights_bytes,
        overhead_bytes=share.overhead,
        standby_bytes=share.standby,
        prefill_peak_bytes=peak,
        kv_budget_bytes=budget,
        kv_bytes_per_token=record.kv_bytes_per_token,
        window_bytes=record.window_bytes,
        state_bytes=record.state_bytes,
        context_tokens=record.context_tokens,
        max_context_tokens=longest_alone(record, budget, record.context_tokens),
        sessions=_fits(record, budget),
        limited_by="" if machine.bound is None else str(machine.bound),
        notice=share.notice,
    )


def plan_elsewhere(
    record: ModelRecord,
    ram_bytes: int,
    working_set_bytes: int | None = None,
    *,
    overhead_bytes: int | None = None,
    standby_bytes: int = DEFAULT_STANDBY_BYTES,
) -> PlanView:
    """What `record` could use on a Mac with so much memory where nothing else runs.

    Without `working_set_bytes` Metal's default is assumed. Settings of this home do not count.
    """
    record = as_fed_on(record, "darwin")
    working_set = metal_working_set(ram_bytes) if working_set_bytes is None else working_set_bytes
    view = plan_model(
        record,
        MachineMemory(total_bytes=ram_bytes, available_bytes=ram_bytes),
        Settings(),
        standby_bytes=standby_bytes,
        overhead_bytes=overhead_bytes,
        overhead_measured=overhead_bytes is not None,
        working_set_bytes=working_set,
    )
    return structs.replace(view, what_if=True)


def session_bytes(record: ModelRecord, tokens: int) -> int:
    """Live KV of one session: full layers grow by whole blocks, the others do not.

    Recurrent state counts with the snapshot that is kept beside it.
    """
    return record.kv_bytes(padded(tokens)) + (STATES_HELD - 1) * record.state_bytes


def least_bytes(record: ModelRecord, plan: PlanView) -> int:
    """What the planned model needs to answer in one session of the least length that counts."""
    tokens = min(LEAST_TOKENS, record.context_tokens)
    fixed = plan.weights_bytes + plan.overhead_bytes + plan.standby_bytes
    contexts = session_bytes(record, tokens)
    if plan.notice:  # less was promised
        contexts = min(contexts, plan.kv_budget_bytes)
    return fixed + plan.prefill_peak_bytes + contexts


def _terms(
    record: ModelRecord,
    machine: MachineMemory,
    settings: Settings,
    reserve: int,
    working_set: int | None,
) -> list[_Term]:
    """Everything that limits for good; of equal ones the first binds."""
    bound = machine.bound
    name, remedy = "ram", "use a smaller model, or lower [memory] reserve_bytes"
    if bound is not None:
        name = _GROUP if bound.is_group else "rlimit"
        remedy = f"use a smaller model, or raise the limit of {bound.name}"
    terms = [_Term(name, machine.total_bytes - reserve, remedy)]
    if working_set is not None:
        # The switch takes MiB and holds until the next start of the Mac.
        wanted = max(machine.total_bytes - reserve, 0) // MIB
        terms.append(
            _Term(
                "working_set",
                working_set - WORKING_SET_MARGIN_BYTES,
                "use a smaller model, or raise Metal's limit with"
                f" `sudo sysctl iogpu.wired_limit_mb={wanted}`",
            )
        )
    if settings.memory.limit_bytes is not None:
        terms.append(
            _Term("cap", settings.memory.limit_bytes, "raise [memory] limit_bytes in config.toml")
        )
    cap = settings.model(record.name).limit_bytes
    if cap is not None:
        way_out = f"raise [models.{record.name}] limit_bytes in config.toml"
        terms.append(_Term("cap", cap, way_out))
    return terms


def _available(machine: MachineMemory, own_footprint: int) -> _Term:
    """What limits for as long as other programs hold what they hold."""
    return _Term(
        _AVAILABLE,
        room_bytes(machine, own_footprint),
        "end other programs (the largest are listed), or use a smaller model",
    )


def _kv_caps(record: ModelRecord, settings: Settings) -> list[int]:
    caps = (settings.memory.kv_budget_bytes, settings.model(record.name).kv_budget_bytes)
    return [cap for cap in caps if cap is not None]


def _shared(
    record: ModelRecord,
    machine: MachineMemory,
    free: int,
    overhead: int | None,
    standby: int,
    reserve: int,
    ahead: int,
) -> Share:
    """How what weights and prefill leave free is shared out."""
    needs = Needs(
        free=free,
        overhead=overhead,
        standby=standby,
        reserve=reserve,
        session=session_bytes(record, min(LEAST_TOKENS, record.context_tokens)),
        block=session_bytes(record, _least_tokens(record, machine)),
        ahead=ahead,
    )
    return share_out(needs, machine)


def _least_tokens(record: ModelRecord, machine: MachineMemory) -> int:
    """The session that has to have room: in a control group a block is better than a refusal."""
    is_group = machine.bound is not None and machine.bound.is_group
    return min(BLOCK_TOKENS if is_group else LEAST_TOKENS, record.context_tokens)


def _is_default(settings: Settings) -> bool:
    """True unless somebody chose the reserve."""
    return settings.memory.reserve_bytes is None


def _shortage(
    record: ModelRecord,
    tokens: int,
    budget: int,
    room: int,
    limit: int,
    share: Share,
    peak: int,
    binding: _Term,
) -> str:
    """Why the model does not fit, with the numbers; empty if it does."""
    needed = session_bytes(record, tokens)
    if budget >= needed:
        return ""
    if room > budget:
        return (
            f"a session of {tokens} tokens needs {_size(needed)} of KV, the KV budget is set to"
            f" {_size(budget)}"
        )
    taken = share.overhead + share.standby
    return (
        f"{_size(record.weights_bytes)} of weights, {_size(taken)} overhead, {_size(peak)} for"
        f" prefill and {_size(needed)} of KV for {tokens} tokens exceed the limit of"
        f" {_size(limit)} ({binding.name})"
    )


def _remedy(reason: str, budget: int, room: int, binding: _Term) -> str:
    if not reason:
        return ""
    return "raise kv_budget_bytes in config.toml" if room > budget else binding.remedy


def _fits(record: ModelRecord, budget: int) -> tuple[FitView, ...]:
    lengths = (tokens for tokens in _CONTEXTS if tokens <= record.context_tokens)
    return tuple(_fit(record, budget, tokens) for tokens in lengths)


def _fit(record: ModelRecord, budget: int, tokens: int) -> FitView:
    size = session_bytes(record, tokens)
    return FitView(
        context_tokens=tokens, sessions=budget // size if size else 0, bytes_per_session=size
    )


def _size(size_bytes: int) -> str:
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.2f} GiB"
