"""Says what becomes cold before a model is replaced: contexts that nobody can use afterwards."""

from hotseat.cli.home.connecting import connected
from hotseat.cli.home.library_process import OnProgress
from hotseat.cli.terminal.output import size
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.errors import HotseatError


def telling_what_becomes_cold(show: OnProgress) -> OnProgress:
    """`show`, with figures where the library is about to replace a model by one of another tag.

    They are taken now: the library says so a moment before it is done.
    """
    contexts = _stored_contexts()

    def show_more(phase: str, percent: float) -> None:
        for name, figures in contexts.items():
            if phase.startswith(f"replacing {name}: "):
                phase = f"{phase}: {figures}; they are collected first, see `hotseat disk`"
        show(phase, percent)

    return show_more


def _stored_contexts() -> dict[str, str]:
    """Figures by model, as the daemon tells them, or the catalogue if none runs.

    Models that share a tag are left out: what one of them leaves the other still uses.
    """
    try:
        with connected() as client:
            rows = [
                (row.models, _figures(row.sessions, row.size_bytes))
                for row in client.disk().tags
                if row.usable
            ]
    except DaemonUnreachable:
        from hotseat.supervisor.kv.offline import stored_contexts

        rows = [
            (row.models, _figures(row.sessions, row.size_bytes))
            for row in stored_contexts()
            if row.is_usable
        ]
    except HotseatError:
        return {}  # an import does not need a daemon, so none in trouble stops it
    return {models[0]: figures for models, figures in rows if len(models) == 1}


def _figures(sessions: int, size_bytes: int) -> str:
    counted = "1 session" if sessions == 1 else f"{sessions} sessions"
    return f"{counted}, {size(size_bytes)}"
