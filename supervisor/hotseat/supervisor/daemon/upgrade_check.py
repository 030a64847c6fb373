"""Which contexts the installed version makes cold, and what computing them again costs.

Reads a home beside its daemon, or without one, and changes nothing but the note of versions that a
daemon leaves at its start.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib import metadata
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Tag
from hotseat.protocol.model import KV_LAYOUT_VERSION
from hotseat.protocol.tags import MLX_LM_KV
from hotseat.protocol.version import VERSION
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import COSTS_KEY
from hotseat.supervisor.dispatch.rules.cold_contexts import is_worth_it
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.scheduling.learned_costs import Costs, decode_costs
from hotseat.supervisor.settings.placed_home import open_home

VERSIONS_KEY: Final = "versions"


class Versions(Struct, frozen=True, kw_only=True):
    """What a context depends on beside its model. Only `kv` is part of its tag.

    `mlx` and `mlx_lm` are told because other ones may round otherwise; they are empty where they
    are not installed.
    """

    hotseat: str = ""
    mlx: str = ""
    mlx_lm: str = ""
    kv: str = ""


class StoredSession(Struct, frozen=True, kw_only=True):
    """A session as the catalogue has it."""

    model: str
    tag: Tag
    tokens: int
    pinned: bool = False
    used_at: float = 0.0


class ColdModel(Struct, frozen=True, kw_only=True):
    """Sessions of a model whose KV the installed version cannot use. Their messages stay.

    `ahead` of them are computed again while nobody asks the seated model for anything; the others
    with their next turn. `seconds`: for all, at the rate that was measured; None if none was.
    """

    model: str
    sessions: int
    pinned: int
    tokens: int
    ahead: int = 0
    seconds: float | None = None
    is_registered: bool = True


class UpgradeView(Struct, frozen=True, kw_only=True):
    """What `upgrade --check` says. `running`: of the daemon that started last; empty: unknown."""

    running: Versions
    installed: Versions
    cold: tuple[ColdModel, ...] = ()
    warm_sessions: int = 0

    @property
    def changed(self) -> tuple[str, ...]:
        """Each as "name: before -> now", where both are known."""
        before, now = (msgspec.structs.asdict(one) for one in (self.running, self.installed))
        pairs = [(name, before[name], now[name]) for name in now]
        return tuple(f"{name}: {a} -> {b}" for name, a, b in pairs if a and b and a != b)


def installed_versions() -> Versions:
    """Of what a process that starts now is made of."""
    return Versions(
        hotseat=VERSION,
        mlx=_version_of("mlx"),
        mlx_lm=_version_of("mlx-lm"),
        kv=f"layout={KV_LAYOUT_VERSION};{MLX_LM_KV}",
    )


async def note_versions(catalogue: Catalogue) -> None:
    """What this daemon runs with, for a later version that asks."""
    await catalogue.meta_set(VERSIONS_KEY, msgspec.json.encode(installed_versions()).decode())


def cold_models(
    sessions: Iterable[StoredSession], tags: Mapping[str, Tag], costs: Costs, now: float
) -> tuple[ColdModel, ...]:
    """By model, most tokens first. `tags` are those of the installed version, `now` Unix time."""
    by_model: dict[str, list[StoredSession]] = {}
    for session in sessions:
        if tags.get(session.model) != session.tag:
            by_model.setdefault(session.model, []).append(session)
    found = [
        _cold(model, rows, costs.of(model).prefill_tokens_per_s, now, is_registered=model in tags)
        for model, rows in by_model.items()
    ]
    return tuple(sorted(found, key=lambda row: (-row.tokens, row.model)))


def _cold(
    model: str,
    rows: list[StoredSession],
    tokens_per_s: float | None,
    now: float,
    *,
    is_registered: bool,
) -> ColdModel:
    tokens = sum(row.tokens for row in rows)
    ahead = sum(
        is_worth_it(tokens=row.tokens, pinned=row.pinned, used_at=row.used_at, now=now)
        for row in rows
    )
    return ColdModel(
        model=model,
        sessions=len(rows),
        pinned=sum(row.pinned for row in rows),
        tokens=tokens,
        ahead=ahead if is_registered else 0,
        seconds=round(tokens / tokens_per_s, 1) if tokens_per_s else None,
        is_registered=is_registered,
    )


def check_upgrade() -> UpgradeView:
    """Of the home that is set. Raises `HotseatError` for settings or a catalogue it cannot read."""
    home, settings = open_home()
    records = Registry(home, settings, nobody).records()
    tags: dict[str, Tag] = {record.name: record.tag for record in records}
    installed = installed_versions()
    if not home.catalogue.exists():
        return UpgradeView(running=Versions(), installed=installed)
    try:
        with closing(sqlite3.connect(f"{home.catalogue.as_uri()}?mode=ro", uri=True)) as db:
            sessions = [
                StoredSession(
                    model=model, tag=tag, tokens=tokens, pinned=bool(pinned), used_at=used_at
                )
                for model, tag, tokens, pinned, used_at in db.execute(
                    "SELECT model, tag, length(tokens) / 4, pinned, used_at FROM sessions"
                    " WHERE substr(name, 1, 1) <> '.' AND length(tokens) > 0"
                )
            ]
            meta = dict(db.execute("SELECT key, value FROM meta"))
    except sqlite3.Error as error:
        raise HotseatError(
            "version_mismatch",
            f"catalogue {home.catalogue} cannot be read as it is ({error}); `hotseat restart` "
            "brings it to the installed version, and `hotseat disk` then shows what is cold",
            file=str(home.catalogue),
        ) from error
    cold = cold_models(sessions, tags, decode_costs(meta.get(COSTS_KEY)), time.time())
    return UpgradeView(
        running=_decode(meta.get(VERSIONS_KEY)),
        installed=installed,
        cold=cold,
        warm_sessions=len(sessions) - sum(row.sessions for row in cold),
    )


def _decode(text: str | None) -> Versions:
    try:
        return msgspec.json.decode(text, type=Versions) if text else Versions()
    except msgspec.DecodeError:
        return Versions()


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
