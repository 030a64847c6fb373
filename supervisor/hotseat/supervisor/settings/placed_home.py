"""The home folder with what its settings put elsewhere. Reads settings, touches nothing else."""

from pathlib import Path

from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import Settings


def open_home(explicit: Path | None = None) -> tuple[Home, Settings]:
    """Home and settings. Raises `HotseatError` (invalid_config)."""
    home = Home.find(explicit)
    settings = load_settings(home.config)
    return placed(home, settings), settings


def placed(home: Home, settings: Settings) -> Home:
    """The home with the folders that settings name."""
    chosen = settings.folders
    return structs.replace(
        home,
        models=None if chosen.models is None else Path(chosen.models),
        kv=None if chosen.kv is None else Path(chosen.kv),
        logs=None if chosen.logs is None else Path(chosen.logs),
    )


def find_placed() -> Home:
    """Like `open_home` for those who only look: settings that are wrong put nothing elsewhere."""
    try:
        return open_home()[0]
    except HotseatError:
        return Home.find()
