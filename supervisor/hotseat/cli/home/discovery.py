"""What the models on this machine would mean for this home: registered, fitting, or why not."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from os.path import realpath
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from hotseat.cli.home.advising import Choice, advise
from hotseat.cli.home.fitting import Fits, planning_here
from hotseat.cli.home.library_process import OnProgress, import_model, run_library
from hotseat.cli.views.advice import Purpose
from hotseat.cli.views.discovery import Attempt, DiscoveryView, FoundState, FoundView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.found_models import Discovery, FoundModel
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import PlanView
from hotseat.supervisor.daemon.kept_figures import read_costs
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.placed_home import open_home

_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9._:@+\-]+")
_LONGEST: Final = 60
"""Leaves room for a number within the limit of names."""


def discover(
    roots: Sequence[str], on_progress: OnProgress, purpose: Purpose | None = None
) -> DiscoveryView:
    """Looks at every place; no model is loaded and no daemon is asked.

    `purpose`: what the models are wanted for, by which those that fit are ranked.
    """
    arguments = [word for root in roots for word in ("--root", str(Path(root).absolute()))]
    found = run_library(["discover", *arguments], on_progress).discovery
    if found is None:
        raise HotseatError("internal", "the library ended without a list")
    home, settings = open_home()
    records = Registry(home, settings, nobody).records()
    fits = planning_here(found.working_set_bytes)
    view = view_discovery(found, records, fits)
    if purpose is None:
        return view
    choices = choices_of(found, records, fits)
    return replace(
        view, purpose=purpose, advice=advise(purpose, choices, read_costs(home.catalogue))
    )


def choices_of(found: Discovery, records: Sequence[ModelRecord], fits: Fits) -> tuple[Choice, ...]:
    """Models that can be asked here: those that are registered, and those that could be."""
    names = registered_names(records)
    here = [
        Choice(record=record, context_tokens=_room(fits(record)), is_registered=True)
        for record in records
    ]
    new = [
        Choice(
            record=model.record,
            context_tokens=_room(fits(model.record)),
            tells_tools=model.kind == "MLX",
        )
        for model in found.models
        if model.record is not None
        and model.record.layers
        and not any(names.get(realpath(path)) for path in (model.path, model.source))
    ]
    return tuple(choice for choice in (*here, *new) if choice.context_tokens)


def _room(plan: PlanView) -> int:
    """Longest session beside the weights; 0 for a model that does not fit whole."""
    return plan.max_context_tokens if plan.fits and plan.residence is None else 0


def view_discovery(found: Discovery, records: Sequence[ModelRecord], fits: Fits) -> DiscoveryView:
    """Each model with what this home knows of it."""
    names = registered_names(records)
    by_name = {str(record.name): record for record in records}
    views = []
    for model in found.models:
        registered = names.get(realpath(model.path)) or names.get(realpath(model.source)) or ()
        record = by_name[registered[0]] if registered else model.record
        views.append(_view(model, registered, record, fits))
    return DiscoveryView(models=tuple(views), unread=found.unread)


def registered_names(records: Sequence[ModelRecord]) -> Mapping[str, tuple[str, ...]]:
    """Names by each path that a record was made from or is loaded from."""
    found: dict[str, tuple[str, ...]] = {}
    for record in records:
        for path in {realpath(record.path), realpath(record.source.path)}:
            found[path] = (*found.get(path, ()), record.name)
    return found


def register_found(
    view: DiscoveryView, on_progress: OnProgress, register: Callable[..., ModelRecord]
) -> DiscoveryView:
    """Registers each new MLX folder that fits, where it lies; one that fails stops no other."""
    taken = {name for model in view.models for name in model.registered_as}
    attempts = []
    for model in view.models:
        if model.state != "new" or model.kind != "MLX":
            continue
        name = free_name(model, taken)
        try:
            register(model.path, name, None, None, on_progress)
        except HotseatError as error:
            attempts.append(Attempt(name=name, path=model.path, error=error.message))
        else:
            taken.add(name)
            attempts.append(Attempt(name=name, path=model.path))
    return replace(view, registered=tuple(attempts))


def free_name(model: FoundView, taken: set[str]) -> str:
    """Its own name, made legal; with its owner in front where another model has that."""
    name = _legal(model.name)
    if name not in taken:
        return name
    owned = _legal(f"{model.owner}-{name}") if model.owner else name
    tries = (owned if number == 1 else f"{owned}-{number}" for number in range(1, 1000))
    return next((name for name in tries if name not in taken), owned)


def _legal(name: str) -> str:
    return _ILLEGAL.sub("-", name).lstrip("._:@+-")[:_LONGEST]


def register_all(view: DiscoveryView, on_progress: OnProgress) -> DiscoveryView:
    """Registers in this home what can be used in place."""
    return register_found(view, on_progress, import_model)


def _view(
    model: FoundModel, registered: tuple[str, ...], record: ModelRecord | None, fits: Fits
) -> FoundView:
    plan = fits(record) if record is not None and record.layers else None
    state, reason = _state(model, registered, plan)
    return FoundView(
        name=model.name,
        place=model.place,
        kind=model.kind,
        path=model.path,
        state=state,
        size_bytes=model.size_bytes,
        owner=model.owner,
        reason=reason,
        registered_as=registered,
        architecture="" if record is None else record.architecture,
        quantisation="" if record is None else record.quantisation,
        fits=None if plan is None else plan.fits,
        weights_bytes=None if record is None else record.weights_bytes,
        kv_bytes_per_token=None if plan is None else plan.kv_bytes_per_token,
        max_context_tokens=None if plan is None else plan.max_context_tokens,
        command=_command(model) if state == "new" else "",
    )


def _state(
    model: FoundModel, registered: tuple[str, ...], plan: PlanView | None
) -> tuple[FoundState, str]:
    if model.fault:
        return model.fault, model.reason
    reason = "" if plan is None or plan.fits else plan.reason
    if registered:
        return "registered", reason
    if reason:
        return "too large", reason
    return "new", plan.notice if plan is not None and plan.residence is not None else ""


def _command(model: FoundModel) -> str:
    return f"hotseat import {shlex.quote(model.source)}"
