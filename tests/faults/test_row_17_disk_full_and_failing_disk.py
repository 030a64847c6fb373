"""Promise: a disk that is full, fails or writes less than asked never makes a checkpoint count.

Each call on files is made to fail in turn, k = 0, 1, 2 ... What was stored before stays as it was,
byte for byte, and the answer says which of the two happened.
"""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.engine.kv_payloads import TAG, make_chain, make_payload
from tests.support.faults.faulty_os import FaultyOs
from tests.support.models.records import turn_commit

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_reports import BlockWritten, TailWritten, WriteFailed
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.worker.store import kv_file
from hotseat.worker.store import writer as writer_module
from hotseat.worker.store.kv_file import read_kv
from hotseat.worker.store.writer import WriterThread

CHAIN = make_chain(2)
TAIL = make_payload([5] * 40, parent=CHAIN[-1][0])
OLD = make_payload([5] * 20, parent=CHAIN[-1][0])
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT, "short": None}
FULL = {"ENOSPC", "EDQUOT"}


@pytest.fixture(autouse=True)
def living_writer(monkeypatch):
    """A writer that gives up ends its process: here it ends the test."""
    ended = []
    monkeypatch.setattr(writer_module, "die", lambda *told: ended.append(told))
    yield
    assert ended == []


def write(folder, epoch, blocks, tail):
    """What the writer reported."""
    reports = []
    writer = WriterThread(folder, TAG, Epoch(epoch), reports.append)
    for index, (block, payload) in enumerate(blocks):
        writer.put_block(payload, block, index)
    writer.put_tail("s", tail)
    assert writer.drain(10)
    writer.stop()
    return reports


def failing(kind, at):
    """Fails the call number `at`, that one only."""

    def fail(name, k):
        if k != at:
            return None
        if kind == "short":
            return "short"
        raise OSError(FAULTS[kind], os.strerror(FAULTS[kind]))

    return fail


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.kv")}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", ["cached", pytest.param("direct", marks=pytest.mark.beyond_slice)])
@pytest.mark.parametrize("kind", FAULTS)
def test_kv_file_whose_write_fails_at_the_kth_call_is_never_reported(
    row, kind, way, tmp_path, monkeypatch
):
    if way == "direct":  # as files of a megabyte and more are written
        monkeypatch.setattr(kv_file, "DIRECT_FROM_BYTES", 1)
    folder = tmp_path / "kv"
    write(folder, 1, CHAIN[:1], OLD)
    before = snapshot(folder)
    template = tmp_path / "template"
    shutil.copytree(folder, template)
    counter = FaultyOs(monkeypatch, folder)
    with counter.active():
        write(folder, 2, CHAIN, TAIL)
    calls = len(counter.calls)
    assert calls > 20
    assert ("write" if way == "direct" else "writev") in counter.calls
    wrong = 0
    for k in range(calls):
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        faulty = FaultyOs(monkeypatch, folder, failing(kind, k))
        with faulty.active():
            reports = write(folder, 2, CHAIN, TAIL)
        wrong += check(folder, before, reports, kind, faulty, k)
    row.record("none", wrong, 0, "broken", runs=calls, what=f"{kind}, {way}, {calls} calls,")


def check(folder, before, reports, kind, faulty, k):
    """0 if every promise holds."""
    after = snapshot(folder)
    assert all(after[name] == data for name, data in before.items()), f"call {k} changed a file"
    assert faulty.synced_after_failure == 0, "a failed sync was repeated on its descriptor"
    payloads = {TAIL.tokens: TAIL} | {payload.tokens: payload for _, payload in CHAIN}
    for report in reports:
        if isinstance(report, BlockWritten | TailWritten):
            found = read_kv(folder, report.file, tag=TAG, parent=None, tokens=None)
            assert found.parts == payloads[found.tokens].parts
        elif isinstance(report, WriteFailed):
            assert report.code == ("disk_full" if kind in FULL else "internal"), report
    failed = [one for one in reports if isinstance(one, WriteFailed)]
    name = faulty.calls[k]
    if kind == "short":
        assert not failed, "a short write is written on"
    if failed and name != "unlink":
        assert not list(folder.rglob("*.tmp")), f"call {k} ({name}) left a temporary file"
    return int(len(reports) != len(CHAIN) + 1)


@pytest.mark.timeout(1800)
async def test_catalogue_that_finds_no_page_is_disk_full_and_keeps_what_it_had(row, tmp_path):
    path = tmp_path / "catalogue.sqlite"
    catalogue = await Catalogue.open(path)
    await catalogue.commit_turn(turn_commit([7] * 400, "s", turn=1, tag=TAG))
    big = turn_commit([7] * 60_000, "s", turn=2, tag=TAG)
    pages, runs = 0, 0
    while True:
        limit = pages
        await catalogue._thread.call(lambda db, limit=limit: _limit_pages(db, limit))
        runs += 1
        error = await refusal(catalogue.commit_turn(big))
        if error is None:
            break
        assert error.code == "disk_full"
        session = await catalogue.session("m", "s")
        assert (session.turn, len(session.tokens)) == (1, 1600)
        pages += row.runs(push=1, slice=9, release=1)
    assert runs > 3
    assert (await catalogue.session("m", "s")).turn == 2
    row.record("none", 0, 0, "broken", runs=runs, what="catalogue without a page")
    await catalogue.close()


async def refusal(call):
    try:
        await call
    except HotseatError as error:
        return error
    return None


def _limit_pages(db, more):
    count = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {count + more}")


CHILD = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from tests.support.engine.kv_payloads import TAG
from tests.support.models.records import turn_commit

async def main(path, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    catalogue = await Catalogue.open(path)
    await catalogue.commit_turn(turn_commit([7] * 400, "s", turn=1, tag=TAG))
    wal = path.with_name(path.name + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + limit, resource.RLIM_INFINITY))
    told = "ok"
    try:
        await catalogue.commit_turn(turn_commit([7] * 8000, "s", turn=2, tag=TAG))
    except HotseatError as error:
        told = error.code
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(told, (await catalogue.session("m", "s")).turn, flush=True)
    await catalogue.close()

for name, limit in json.loads(sys.argv[1]):
    asyncio.run(main(Path(name), limit))
"""


@pytest.mark.timeout(1800)
async def test_catalogue_whose_write_is_refused_at_any_byte_keeps_what_it_had(row, tmp_path):
    """The log may grow by so many bytes and not one more."""
    step = row.runs(push=600, slice=6000, release=100)
    limits = list(range(0, 120_000, step))
    jobs = [(str(tmp_path / f"{limit}.sqlite"), limit) for limit in limits]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CHILD, json.dumps(jobs)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert len(told) == len(limits)
    assert {answer for answer, _ in told} == {"ok", "disk_full"}
    for (answer, turn), (name, _) in zip(told, jobs, strict=True):
        assert turn == ("2" if answer == "ok" else "1")
        catalogue = await Catalogue.open(Path(name))
        assert catalogue.opened.damaged is None
        assert (await catalogue.session("m", "s")).turn == int(turn)
        await catalogue.close()
    row.record("none", 0, 0, "broken", runs=len(limits), what="catalogue refused a write")
