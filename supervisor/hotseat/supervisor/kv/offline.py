"""Verifies, collects and rebuilds KV of a home whose daemon does not run, under the home's lock."""

import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from hotseat.protocol.disk_views import GcView, VerifyView
from hotseat.supervisor.catalogue.eviction import TagUsage, usage
from hotseat.supervisor.catalogue.rebuilding import Rebuilt
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.kv.disk_tier import DiskTier, SessionKey
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.kv.rebuild import rebuild_home, restore_catalogue
from hotseat.supervisor.machine.locks import InstanceLock
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.placed_home import open_home
from hotseat.supervisor.settings.reader import load_settings

T = TypeVar("T")


def verify_home() -> VerifyView:
    """Reads every KV file. Raises `HotseatError`: already_running if a daemon holds the home."""
    return _with_checks(lambda checks: checks.verify())


def collect_home(*, dry_run: bool) -> GcView:
    """Removes, or lists, KV that is of no use. Raises `HotseatError`."""
    return _with_checks(lambda checks: checks.collect(dry_run=dry_run))


def stored_contexts() -> list[TagUsage]:
    """Figures per tag, read without the lock and changing nothing; empty if they cannot be told.

    Raises `HotseatError` for settings that are wrong.
    """
    home, settings = open_home()
    records = Registry(home, settings, nobody).records()
    usable = frozenset(record.tag for record in records)
    try:
        with closing(sqlite3.connect(f"{home.catalogue.as_uri()}?mode=ro", uri=True)) as db:
            return usage(db, usable)
    except sqlite3.Error:
        return []  # there is none, or it is one of another version


def rebuild_offline() -> tuple[Rebuilt, Path | None]:
    """A new catalogue from the files, and where the old one is. Raises `HotseatError`."""
    with locked_home() as home:
        return asyncio.run(rebuild_home(home))


def _with_checks(work: Callable[[KvChecks], Awaitable[T]]) -> T:
    with locked_home() as home:
        return asyncio.run(_run(home, work))


async def _run(home: Home, work: Callable[[KvChecks], Awaitable[T]]) -> T:
    settings = load_settings(home.config)
    catalogue = await Catalogue.open(home.catalogue, home.sessions_dir)
    try:
        if catalogue.opened.created:
            await restore_catalogue(home, catalogue)
        events = EventLog(_unheard)
        keeper = KvKeeper(catalogue, home.kv_dir, events, _unheard, _unheard)
        tier = DiskTier(
            catalogue=catalogue,
            keeper=keeper,
            registry=Registry(home, settings, nobody),
            use=_Unused(),
            events=events,
            settings=settings,
            kv_dir=home.kv_dir,
        )
        checks = KvChecks(
            catalogue=catalogue, keeper=keeper, tier=tier, events=events, kv_dir=home.kv_dir
        )
        answer = await work(checks)
        await keeper.flush()
        return answer
    finally:
        await catalogue.close()


class _Unused:
    """No daemon runs, so nothing of the KV is in use."""

    def sessions(self) -> frozenset[SessionKey]:
        return frozenset()

    def running_since(self) -> None:
        return None


def _unheard(*_said: object) -> None:
    """There are neither readers nor a worker nor requests."""


@contextmanager
def locked_home() -> Iterator[Home]:
    """The home of a daemon that does not run, and cannot start meanwhile; already_running."""
    os.umask(0o077)
    # The answer alone goes to stdout; what a daemon would log of the way there goes nowhere.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    home, _settings = open_home()
    home.create()
    lock = InstanceLock(home.lock_file)
    lock.acquire()
    try:
        yield home
    finally:
        lock.release()
