"""Removes a registered model: files of the home folder, which a running daemon notices."""

from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.errors import HotseatError


def remove_model(name: str) -> int:
    """Unregisters a model; returns the bytes freed. Refused while the model is in use."""
    from hotseat.supervisor.models.registry import Registry, nobody
    from hotseat.supervisor.settings.placed_home import open_home

    refuse_in_use(name)
    return Registry(*open_home(), nobody).remove(name)


def refuse_in_use(name: str) -> None:
    """Raises `HotseatError` (invalid_request) for a model that a running daemon needs now."""
    from hotseat.cli.home.connecting import connected

    try:
        with connected() as client:
            view = client.status()
    except DaemonUnreachable:
        return
    asked_for = {request.model for request in view.requests} | set(view.queue.models)
    if view.swap is not None:
        asked_for.add(view.swap.to or "")
    if name == view.model or name in asked_for:
        raise HotseatError(
            "invalid_request",
            f"model {name!r} is seated or asked for; `hotseat swap` to another model or "
            "`hotseat stop` first",
            model=name,
        )
