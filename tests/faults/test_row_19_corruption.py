"""Promise: a damaged, cut, swapped or edited checkpoint is never used: the session is answered cold
from there on, with the same tokens, and is told why.
"""

import contextlib
import random
import shutil
import sqlite3

import pytest
from tests.support.engine.kv_payloads import FULL, TAG, WINDOW, make_payload
from tests.support.faults.fault_home import TURN, FaultHome, stored_files
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.replies import Event
from hotseat.worker.store.kv_file import KvDamagedError, read_kv, write_kv


def flip(chance, data, _other):
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def cut(chance, data, _other):
    return data[: chance.randrange(len(data))]


def grow(chance, data, _other):
    return data + chance.randbytes(chance.randrange(1, 100))


def zero(chance, data, _other):
    at = chance.randrange(len(data) - 64)
    zeroed = data[:at] + bytes(64) + data[at + 64 :]
    return zeroed if zeroed != data else data[:at]


def swap(_chance, _data, other):
    return other


def splice(chance, data, other):
    at = chance.randrange(64, len(data))
    spliced = data[:at] + other[at:]
    return spliced if spliced != data else other


DAMAGES = (flip, cut, grow, zero, swap, splice)


def test_every_damaged_file_is_refused_before_use(row, tmp_path):
    chance = random.Random(19)
    payloads = [
        make_payload([7] * 256, layers=(FULL, WINDOW), seed=1),
        make_payload([8] * 256, layers=(FULL, WINDOW), seed=2),
    ]
    for number, payload in enumerate(payloads):
        write_kv(tmp_path, f"tails/{number}.kv", payload)
    good, other = [(tmp_path / f"tails/{number}.kv").read_bytes() for number in range(2)]
    runs = row.runs(push=1000, slice=150, release=20_000)
    used = 0
    for number in range(runs):
        damage = DAMAGES[number % len(DAMAGES)]
        (tmp_path / "tails/x.kv").write_bytes(damage(chance, good, other))
        with contextlib.suppress(KvDamagedError):
            wanted = payloads[0]
            read_kv(tmp_path, "tails/x.kv", tag=TAG, parent=wanted.parent, tokens=wanted.tokens)
            used += 1
    row.record("none", used, 0, "used", runs=runs, what="damaged files")


def edit_rows(chance, home):
    """Rows that name other files than they should, or say other things of them."""
    with contextlib.closing(sqlite3.connect(home / "catalogue.sqlite")) as db:
        tails = db.execute("SELECT id, file FROM tails").fetchall()
        blocks = db.execute("SELECT id, file FROM blocks").fetchall()
        for place, (tail, _) in enumerate(tails):
            file = tails[(place + 1) % len(tails)][1]
            match chance.randrange(3):
                case 0:
                    db.execute("UPDATE tails SET file = ? WHERE id = ?", (f"tails/n{tail}", tail))
                case 1:
                    db.execute("UPDATE tails SET hint = ? WHERE id = ?", (b"\x93nonsense", tail))
                case _:
                    db.execute("UPDATE OR IGNORE tails SET file = ? WHERE id = ?", (file, tail))
        for block, _ in blocks:
            db.execute("UPDATE blocks SET size_bytes = 1 WHERE id = ?", (block,))
        db.commit()


def damage_files(chance, home):
    """Every stored file, each in another way."""
    files = [home / "kv" / tag / file for tag, file, _, _ in stored_files(home)]
    whole = {path: path.read_bytes() for path in files}
    for place, path in enumerate(files):
        other = whole[files[(place + 1) % len(files)]]
        path.write_bytes(chance.choice(DAMAGES)(chance, whole[path], other))
    return len(files)


@pytest.fixture(scope="module")
def real():
    """A home with a real model and sessions on disk, and what they answer without damage."""
    with FaultHome("real") as home:
        client = home.client()
        for number in range(2):
            text = TURN + " again" * number
            client.generate("a", prompt=text, session=f"s{number}", max_tokens=8, seed=1).result()
        assert home.stop() == 0
        shutil.copytree(home.home, home.base / "kept")
        home.start()
        again = home.client()
        right = [
            again.generate("a", append=" and", session=f"s{n}", max_tokens=8, seed=1).result()
            for n in range(2)
        ]
        assert all(done.usage.restored_tokens > 256 for done in right)
        home.stop()
        yield home, right
        home.start()


@pytest.mark.timeout(7200)
def test_real_worker_answers_cold_from_damaged_checkpoints_and_says_so(row, real):
    home, right = real
    runs = row.runs(push=12, slice=1, release=200)
    chance = random.Random(20)
    wrong = 0
    for number in range(runs):
        shutil.rmtree(home.home)
        shutil.copytree(home.base / "kept", home.home)
        if number % 3 == 2:
            edit_rows(chance, home.home)
        else:
            assert damage_files(chance, home.home) >= 2
        home.start()
        client = home.client()
        for place, expected in enumerate(right):
            made = client.generate("a", append=" and", session=f"s{place}", max_tokens=8, seed=1)
            done = made.result()
            wrong += done.tokens != expected.tokens
            if number % 3 != 2 and place == 0:  # the second shares what the first has in memory
                assert done.usage.restored_tokens < expected.usage.restored_tokens
        told = {event.name for event in events(home)}
        if number % 3 != 2:
            assert "kv.quarantined" in told
        client.close()
        home.stop()
    row.record("real", wrong, 0, "wrong", runs=runs, what="answers from damaged checkpoints,")


def events(home):
    """All of this run of the daemon."""
    with RawPeer(home.endpoint().requests) as peer:
        peer.pack("events", {"since": 1, "credit_bytes": 10**9}, "e")
        peer.pack("status", {}, "s")
        seen = []
        while (got := peer.receive())[0] != "s":
            if isinstance(got[1], Event):
                seen.append(got[1])
        return seen
