"""The memory plan of a model: what it may use, what is left for KV, what binds. Pure.

Numbers come in, numbers go out: nothing is measured here.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, structs

from hotseat.protocol.limits import BLOCK_TOKENS, GIB, MIB
from hotseat.protocol.live_contexts import longest_alone
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import FitView, PlanView
from hotseat.supervisor.machine.figures import Holder, MachineMemory
from hotseat.supervisor.models.rules.long_contexts import with_long_contexts
from hotseat.supervisor.models.rules.prefill import as_fed_on, prefill_peak_bytes
from hotseat.supervisor.models.rules.room import (
    beside_others,
    bytes_to_seat,
    is_roomy,
    margin_bytes,
    room_bytes,
)
from hotseat.supervisor.models.rules.sizes import (
    DEFAULT_STANDBY_BYTES,
    LEAST_TOKENS,
    least_contexts,
    session_bytes,
    sized,
)
from hotseat.supervisor.models.rules.streamed_plan import plan_streamed
from hotseat.supervisor.models.rules.tight import Needs, Share, share_out
from hotseat.supervisor.models.rules.working_set import metal_working_set
from hotseat.supervisor.settings.values import Settings

WORKING_SET_MARGIN_BYTES: Final = GIB
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
    may_stream = settings.memory.streaming == "auto" and not record.unfit_reason
    found_bytes = machine.available_bytes
    if machine.held_bytes and may_stream:
        room = room_bytes(machine, own_footprint_bytes) - settings.memory.reserve_for(machine)
        machine, own_footprint_bytes = beside_others(machine, 0 if in_any_case else room), 0

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

    # What is in memory depends on the machine, and on others where that was found out before
    # anything ended; not on what they hold now. The gate waits for the same that is loaded then.
    view = whole = beside = planned(record, in_any_case=True)
    is_whole = whole.fits
    if machine.held_bytes and may_stream:
        beside = planned(record, in_any_case=False)
        needed = bytes_to_seat(record, beside, machine)
        is_whole = is_roomy(record, beside, whole) and room_bytes(machine) >= needed
    if may_stream and not is_whole:
        view = plan_streamed(record, whole, beside, machine, planned, read_rate)
    is_refused = may_stream and not view.fits
    if view.residence is None and not is_refused and not in_any_case:
        view = planned(record)
    if settings.memory.streaming == "auto":
        view = with_long_contexts(record, view, read_rate)
    return structs.replace(
        view,
        available_bytes=found_bytes,
        overhead_measured=overhead_measured,
        holders=tuple((holder.name, holder.size_bytes) for holder in holders),
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
        record, machine, budget, room, limit, share, peak, binding
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
        session=least_contexts(record) if machine.in_group else 0,
        block=_least_bytes(record, machine),
        ahead=ahead,
        tokenizer=record.tokenizer_bytes,
    )
    return share_out(needs, machine)


def _least_tokens(record: ModelRecord, machine: MachineMemory) -> int:
    """The session that has to have room: in a control group a block is better than a refusal."""
    return min(BLOCK_TOKENS if machine.in_group else LEAST_TOKENS, record.context_tokens)


def _least_bytes(record: ModelRecord, machine: MachineMemory) -> int:
    """KV without which it does not fit. Prompts as long as that session may take more."""
    tokens = _least_tokens(record, machine)
    return least_contexts(record, tokens) if machine.in_group else session_bytes(record, tokens)


def _is_default(settings: Settings) -> bool:
    """True unless somebody chose the reserve."""
    return settings.memory.reserve_bytes is None


def _shortage(
    record: ModelRecord,
    machine: MachineMemory,
    budget: int,
    room: int,
    limit: int,
    share: Share,
    peak: int,
    binding: _Term,
) -> str:
    """Why the model does not fit, with the numbers; empty if it does."""
    tokens, needed = _least_tokens(record, machine), _least_bytes(record, machine)
    if budget >= needed:
        return ""
    if room > budget:
        return (
            f"a session of {tokens} tokens needs {sized(needed)} of KV, the KV budget is set to"
            f" {sized(budget)}"
        )
    taken = share.overhead + share.standby
    return (
        f"{sized(record.weights_bytes)} of weights, {sized(taken)} overhead, {sized(peak)} for"
        f" prefill and {sized(needed)} of KV for {tokens} tokens exceed the limit of"
        f" {sized(limit)} ({binding.name})"
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
