"""Names for shell completion: models and sessions. Says nothing and never fails: it is guesswork.

Asks the daemon; without one the folders of the home are enough for models.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from hotseat.client.sync import Client

T = TypeVar("T")


def model_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Registered models that begin so."""
    names = _ask(lambda client: [view.name for view in client.models()], None)
    if names is None:
        names = _folders()
    return sorted(name for name in names if name.startswith(incomplete))


def session_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Sessions that begin so, of the model that stands before them if one does."""
    model = ctx.params.get("model")
    wanted = model if isinstance(model, str) else None
    nothing: list[str] = []
    names = _ask(lambda client: [view.session for view in client.sessions(wanted)], nothing)
    return sorted({name for name in names if name.startswith(incomplete)})


def _ask(read: "Callable[[Client], T]", otherwise: T) -> T:
    from hotseat.client.sync import Client
    from hotseat.protocol.errors import HotseatError

    try:
        with Client(name="hotseat-completion") as client:
            return read(client)
    except (HotseatError, OSError):
        return otherwise


def _folders() -> list[str]:
    from hotseat.protocol.ids import is_model_name
    from hotseat.supervisor.settings.placed_home import find_placed

    try:
        return [
            path.name for path in find_placed().models_dir.iterdir() if is_model_name(path.name)
        ]
    except OSError:
        return []
