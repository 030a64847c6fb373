"""How the models on this machine look to a person."""

from typing import Literal

from msgspec import Struct

from hotseat.cli.terminal.output import count, note, print_table, size
from hotseat.cli.views.advice import Advice, render_advice

FoundState = Literal["registered", "new", "too large", "incomplete", "unsupported"]


class FoundView(Struct, frozen=True, kw_only=True):
    """A model on this machine. Figures of a model that is not registered are estimates."""

    name: str
    place: str
    kind: str
    path: str
    state: FoundState
    size_bytes: int
    owner: str = ""
    reason: str = ""
    """What is missing, not supported or too large; that a new one does not fit whole."""
    registered_as: tuple[str, ...] = ()
    architecture: str = ""
    quantisation: str = ""
    fits: bool | None = None
    """None: too little is known to tell."""
    weights_bytes: int | None = None
    kv_bytes_per_token: int | None = None
    max_context_tokens: int | None = None
    """Longest session beside its weights, if nothing else ran on this machine."""
    command: str = ""
    """What makes it usable."""


class Attempt(Struct, frozen=True, kw_only=True):
    """What became of registering a model."""

    name: str
    path: str
    error: str = ""


class DiscoveryView(Struct, frozen=True, kw_only=True):
    """Everything that was found, places that could not be read, and what was registered."""

    models: tuple[FoundView, ...]
    unread: tuple[str, ...] = ()
    registered: tuple[Attempt, ...] = ()
    purpose: str = ""
    """What `advice` is for; empty: nobody asked for any."""
    advice: tuple[Advice, ...] = ()
    """Models that fit, the most suitable first."""


def render_discovery(view: DiscoveryView) -> None:
    """A row per model, then why some cannot be used, then what to do; advice alone if asked for."""
    for place in view.unread:
        note(f"not read: {place}")
    if view.purpose:
        render_advice(view.purpose, view.advice)
        _render_attempts(view)
        return
    if not view.models:
        print("no models were found; `hotseat pull REPO` fetches one, --root looks elsewhere")
        return
    print_table(
        ("NAME", "PLACE", "KIND", "STATE", "SIZE ", "CONTEXT ", "QUANTISATION"),
        [
            (
                model.registered_as[0] if model.registered_as else model.name,
                model.place,
                model.kind,
                model.state,
                size(model.size_bytes),
                count(model.max_context_tokens) if model.max_context_tokens else "",
                model.quantisation,
            )
            for model in view.models
        ],
    )
    for model in view.models:
        if model.reason:
            note(f"{model.name}: {model.reason}")
    for model in view.models:
        if model.command and model.kind != "MLX":
            note(f"{model.name}: {model.command}")
    _render_attempts(view)


def _render_attempts(view: DiscoveryView) -> None:
    for attempt in view.registered:
        outcome = f"not registered: {attempt.error}" if attempt.error else "registered"
        print(f"{attempt.name}  {outcome}")
    usable = sum(model.state == "new" and model.kind == "MLX" for model in view.models)
    if usable and not view.registered:
        note(f"`hotseat models --discover --register` takes {usable} where they lie")
