"""What a commit of the catalogue costs, by the daemon's own way of opening it."""

import time
from pathlib import Path
from typing import Final

from hotseat.cli.selftest.rules.orders import CommitRows
from hotseat.protocol.selftest import Measured, figure
from hotseat.supervisor.catalogue.schema import open_catalogue

_MS: Final = 1000.0
_TABLE: Final = "CREATE TABLE selftest (number INTEGER PRIMARY KEY, data BLOB) STRICT"


def commit_rows(order: CommitRows) -> Measured:
    """Milliseconds a commit of one row of 4 KiB."""
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    connection, _opened = open_catalogue(folder / "selftest.sqlite")
    found = []
    try:
        connection.execute(_TABLE)
        for number in range(order.count):
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO selftest VALUES (?, ?)", (number, bytes(4096)))
            connection.execute("COMMIT")
            found.append((time.perf_counter() - started) * _MS)
    finally:
        connection.close()
    return Measured(figures=(figure("commit_ms", *found),))
