"""Promise: what the catalogue acknowledged survives kill -9 of its process."""

import signal
import subprocess
import sys

import pytest
from tests.support.models.records import TAG, accept_record

from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue.store import Catalogue

_CHILD = """
import asyncio, sys
from pathlib import Path
from tests.support.models.records import accept_record, turn_commit
from hotseat.supervisor.catalogue.store import Catalogue

async def work(catalogue, lane):
    number = 0
    while True:
        record = accept_record(f"{lane}.{number}")
        await catalogue.accept(record)
        print("accepted", record.request_id, flush=True)
        await catalogue.commit_turn(
            turn_commit([7] * (number + 1), lane, key=record.key, reply=b"done")
        )
        print("done", record.request_id, flush=True)
        number += 1

async def main():
    catalogue = await Catalogue.open(Path(sys.argv[1]))
    await asyncio.gather(*[work(catalogue, lane) for lane in ("x", "y", "z")])

asyncio.run(main())
"""


def run_and_kill(path, acknowledged):
    """What the child printed until it was killed, after at least that many lines."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    # A last line may be cut: only whole ones were certainly printed after the acknowledgement.
    lines += rest.splitlines(keepends=True)
    return [line.split() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("acknowledged", [1, 4, 50, 51, 200])
async def test_killed_process_loses_nothing_acknowledged(tmp_path, acknowledged):
    path = tmp_path / "catalogue.sqlite"
    lines = run_and_kill(path, acknowledged)
    assert len(lines) >= acknowledged
    catalogue = await Catalogue.open(path)
    turns = dict.fromkeys("xyz", 0)
    for state, request_id in lines:
        row = await catalogue.request(accept_record(request_id).key)
        assert row is not None
        if state == "done":
            assert (row.state, row.reply) == ("done", b"done")
            turns[request_id[0]] = max(turns[request_id[0]], int(request_id[2:]) + 1)
    for lane, turn in turns.items():
        session = await catalogue.session("m", lane)
        if session is None:
            assert turn == 0
            continue
        assert session.turn >= turn
        assert (session.tag, session.tokens) == (TAG, pack_tokens([7] * session.turn))
        done = await catalogue.request(accept_record(f"{lane}.{session.turn - 1}").key)
        assert done.state == "done"
    await catalogue.close()
