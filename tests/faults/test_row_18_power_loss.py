"""Promise: no power cut leaves an acknowledged checkpoint missing or wrong.

Every call the writer and the supervisor make on KV files is recorded. A crash may leave any prefix
of them, with any part of what was not synced: all of those states are looked at. On a Mac a sync
only hands over to the drive, and the flush of a commit makes durable what was handed over before.
The catalogue's own commits are SQLite's; what may be left of its log is looked at the same way.
"""

import shutil
import sqlite3

import pytest
from tests.support.engine.kv_payloads import TAG, make_chain, make_payload
from tests.support.faults.faulty_os import CrashStates, Recorder
from tests.support.models.records import turn_commit

from hotseat.protocol.ids import Epoch, ModelName, SessionName
from hotseat.protocol.link_reports import BlockWritten, TailWritten
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.schema import open_catalogue
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.files import unlink_files
from hotseat.supervisor.machine.drives import Drives
from hotseat.worker.store import kv_file, sync
from hotseat.worker.store.kv_file import KvDamagedError, read_kv
from hotseat.worker.store.writer import WriterThread


class Disk:
    """Writes what a swap writes, twice, and has the supervisor commit it; all on record."""

    def __init__(self, folder, recorder, *, drive_caches=False):
        self.drive_caches = drive_caches
        self.folder = folder
        self.recorder = recorder
        self.payloads = {}

    def write(self, epoch, blocks, tail):
        reports = []
        writer = WriterThread(self.folder / TAG, TAG, Epoch(epoch), reports.append)
        for index, (block, payload) in enumerate(blocks):
            writer.put_block(payload, block, index)
        writer.put_tail("s", tail)
        writer.drain()
        writer.stop()
        kept = [one for one in reports if isinstance(one, BlockWritten | TailWritten)]
        assert len(kept) == len(blocks) + 1, reports
        for report, payload in zip(kept, [*(p for _, p in blocks), tail], strict=True):
            self.payloads[report.file] = payload
        return kept

    async def commit(self, catalogue, report):
        """As the supervisor does it: row, acknowledgement, then unlinking what is obsolete."""
        if isinstance(report, BlockWritten):
            fields = {name: getattr(report, name) for name in ("parent", "index", "file")}
            row = BlockRow(
                id=report.block, tag=TAG, size_bytes=report.size_bytes, written_at=0.0, **fields
            )
            obsolete = await catalogue.add_blocks([row])
        else:
            session = (ModelName("m"), SessionName("s"))
            obsolete = await catalogue.commit_tail(TAG, session, report, 0.0)
            assert report.file not in {file.file for file in obsolete}, "the tail was refused"
        # What is known of blocks alone becomes durable with the turn that has them.
        if isinstance(report, TailWritten) or not self.drive_caches:
            await self.acknowledge(catalogue)
        unlink_files(self.folder, obsolete)

    async def acknowledge(self, catalogue):
        self.recorder.acknowledge(("named", frozenset(await catalogue.files(TAG))))

    def states(self):
        log = self.recorder.log
        return CrashStates(log, self.folder, drive_caches=self.drive_caches)


@pytest.fixture(params=["cached", "direct", "mac"])
async def recorded(request, tmp_path, monkeypatch):
    if request.param == "direct":  # as files of a megabyte and more are written
        monkeypatch.setattr(kv_file, "DIRECT_FROM_BYTES", 1)
    folder = tmp_path / "kv"
    folder.mkdir()
    chain = make_chain(2)
    tokens = [token for _, payload in chain for token in _ids(payload)]
    recorder = Recorder(monkeypatch, folder)
    is_mac = request.param == "mac"
    disk = Disk(folder, recorder, drive_caches=is_mac)
    drives = Drives(folder, control=recorder.control if is_mac else None)
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite", drives=drives)
    tails = [[5] * 20, [5] * 20 + [6] * 10]
    with recorder.active():
        for epoch, (blocks, tail) in enumerate(zip((chain, []), tails, strict=True)):
            payload = make_payload(tail, parent=chain[-1][0], seed=epoch)
            reports = disk.write(epoch, blocks, payload)
            for report in reports[:-1]:
                await disk.commit(catalogue, report)
            turn = turn_commit(tokens + tail, "s", turn=epoch + 1, tag=TAG)
            await catalogue.commit_turn(turn)
            await disk.acknowledge(catalogue)
            await disk.commit(catalogue, reports[-1])
    await catalogue.close()
    return disk


def _ids(payload):
    return memoryview(payload.tokens).cast("I").tolist()


def test_every_state_after_a_power_cut_has_all_that_was_acknowledged(row, recorded, tmp_path):
    place = tmp_path / "after"
    believed = {}

    def is_right(file, content):
        """The file verifies as what was written under that name."""
        if (file, content) not in believed:
            path = place / TAG / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            payload = recorded.payloads[file]
            try:
                read_kv(place / TAG, file, tag=TAG, parent=payload.parent, tokens=payload.tokens)
                believed[file, content] = True
            except KvDamagedError:
                believed[file, content] = False
        return believed[file, content]

    states = broken = 0
    for acknowledged, files in recorded.states():
        states += 1
        named = acknowledged[-1][1] if acknowledged else frozenset()
        for file in named:
            content = files.get(str(recorded.folder / TAG / file))
            broken += content is None or not is_right(file, content)
    assert states > 300, "hardly anything was recorded"
    assert len(named) == 3, "two blocks and the newer tail"
    row.record("none", broken, 0, "states lost", runs=states, what="of all crash states")


def test_states_are_lost_when_files_are_not_synced(monkeypatch, tmp_path):
    """The test of the test: without syncs the recorder finds lost states."""
    folder = tmp_path / "kv"
    folder.mkdir()
    monkeypatch.setattr(sync, "sync_file", lambda _fd: None)
    monkeypatch.setattr(kv_file, "sync_file", lambda _fd: None)
    recorder = Recorder(monkeypatch, folder)
    disk = Disk(folder, recorder)
    with recorder.active():
        (report,) = disk.write(1, [], make_payload([5] * 20))
        recorder.acknowledge(("named", frozenset([report.file])))
    path = str(folder / TAG / report.file)
    whole = [
        files.get(path) for acknowledged, files in CrashStates(recorder.log, folder) if acknowledged
    ]
    assert any(content is None or len(content) < report.size_bytes for content in whole)


def test_states_are_lost_when_a_macs_drive_is_not_flushed(monkeypatch, tmp_path):
    """The test of the test: what was only handed over to the drive may be gone."""
    folder = tmp_path / "kv"
    folder.mkdir()
    recorder = Recorder(monkeypatch, folder)
    disk = Disk(folder, recorder, drive_caches=True)
    with recorder.active():
        (report,) = disk.write(1, [], make_payload([5] * 20))
        recorder.acknowledge("synced")
        Drives(folder, control=recorder.control).flush(with_files=False)
        recorder.acknowledge("flushed")
    path = str(folder / TAG / report.file)
    sizes = {
        said: {
            len(files.get(path, b""))
            for acknowledged, files in disk.states()
            if acknowledged and acknowledged[-1] == said
        }
        for said in ("synced", "flushed")
    }
    assert {0, report.size_bytes} < sizes["synced"] and sizes["flushed"] == {report.size_bytes}


async def test_every_cut_of_the_catalogues_log_keeps_what_was_committed(row, tmp_path):
    """After each commit the log is synced so far; of what follows anything may be left."""
    path = tmp_path / "catalogue.sqlite"
    catalogue = await Catalogue.open(path)
    log = path.with_name(path.name + "-wal")
    lengths = []
    for turn in range(1, 7):
        await catalogue.commit_turn(turn_commit([7] * turn * 40, "s", turn=turn, tag=TAG))
        lengths.append(log.stat().st_size)
    main, whole = path.read_bytes(), log.read_bytes()
    await catalogue.close()
    states = lost = 0
    step = row.runs(push=512, slice=4096, release=64)
    for turn, synced in enumerate(lengths, 1):
        following = lengths[turn] if turn < len(lengths) else synced
        for end in range(synced, following + 1, step):
            for torn in (b"", b"\0" * 512):
                states += 1
                place = tmp_path / "cut"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                (place / "c.sqlite").write_bytes(main)
                (place / "c.sqlite-wal").write_bytes(whole[:end] + torn)
                lost += _turn_of(place / "c.sqlite") < turn
    row.record("none", lost, 0, "states lost", runs=states, what="of catalogue log states")


def _turn_of(path):
    connection, opened = open_catalogue(path)
    try:
        assert opened.damaged is None
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2, "FULL"
        return connection.execute("SELECT turn FROM sessions").fetchone()[0]
    except (sqlite3.Error, TypeError):
        return 0
    finally:
        connection.close()
