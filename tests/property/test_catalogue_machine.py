"""The catalogue agrees with a dict, whatever is done to it, crashes included."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.models.records import TAG, accept_record, turn_commit

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.catalogue.eviction import Kept
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.rules.eviction_order import Worth
from hotseat.supervisor.catalogue.store import Catalogue

# Two kinds of block and short rests: sequences that share prefixes and diverge are common.
TOKENS = st.builds(
    lambda blocks, rest: [token for block in blocks for token in [block] * 256] + [7] * rest,
    st.lists(st.integers(0, 1), max_size=3),
    st.sampled_from([0, 1, 5, 200]),
)
NAMES = st.sampled_from(["a", "b"])
IDS = st.sampled_from(["r1", "r2", "r3"])
MEMORY = Path("/dev/shm")


class CatalogueMachine(RuleBasedStateMachine):
    """`files`: everything written and not yet returned for unlinking."""

    @initialize()
    def open(self):
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.path = self.folder / "catalogue.sqlite"
        self.catalogue = self.run(Catalogue.open(self.path))
        self.requests = {}
        self.sessions = {}
        self.turns = {}
        self.blocks = {}
        self.tails = {}
        self.snapshots = {}
        self.had = {}
        self.count = 0
        self.clock = 0.0

    def run(self, work):
        return self.loop.run_until_complete(work)

    def now(self):
        self.clock += 100.0
        return self.clock

    def new_file(self):
        self.count += 1
        return f"f{self.count}"

    @rule(request_id=IDS, body=st.sampled_from([b"x", b"y"]))
    def accept(self, request_id, body):
        got = self.run(self.catalogue.accept(accept_record(request_id, body=body)))
        known = self.requests.get(request_id)
        assert got.is_new == (known is None)
        if known is None:
            self.requests[request_id] = known = (body, "accepted", b"")
        assert got.same_body == (body == known[0])
        assert (got.row.state, got.row.reply) == known[1:]

    @rule(request_id=IDS)
    def reject(self, request_id):
        is_running = self.requests.get(request_id, (b"", "", b""))[1] == "accepted"
        assert self.run(self.catalogue.reject(accept_record(request_id).key)) == is_running
        if is_running:
            del self.requests[request_id]

    @rule(request_id=IDS, kind=st.sampled_from(["done", "error"]))
    def finish(self, request_id, kind):
        known = self.requests.get(request_id)
        reply = self.new_file().encode()
        key = accept_record(request_id).key
        was_running = known is not None and known[1] == "accepted"
        assert self.run(self.catalogue.finish(key, kind, reply, self.now())) == was_running
        if was_running:
            self.requests[request_id] = (known[0], kind, reply)

    @rule(tokens=TOKENS, written=st.sets(st.integers(0, 2), min_size=1))
    def write_blocks(self, tokens, written):
        chain = block_chain(TAG, tokens)
        parents = [root_id(TAG), *chain]
        for index, block in enumerate(chain):
            if index not in written:
                continue
            file = self.blocks.get(block) or self.new_file()
            row = BlockRow(
                id=block,
                tag=TAG,
                parent=parents[index],
                index=index,
                file=file,
                size_bytes=10,
                written_at=self.now(),
            )
            assert self.run(self.catalogue.add_blocks([row])) == []
            self.blocks[block] = file

    @rule(name=NAMES, tokens=TOKENS, request_id=st.none() | IDS)
    def commit_turn(self, name, tokens, request_id):
        key = accept_record(request_id).key if request_id else None
        commit = turn_commit(tokens, name, key=key, reply=b"reply", at=self.now())
        known = self.requests.get(request_id)
        if request_id and (known is None or known[1] != "accepted"):
            before = self.sessions.get(name)
            try:
                self.run(self.catalogue.commit_turn(commit))
            except HotseatError:
                assert self.sessions.get(name) == before
                return
            raise AssertionError("a request ended twice")
        done = self.run(self.catalogue.commit_turn(commit))
        if request_id:
            self.requests[request_id] = (known[0], "done", b"reply")
        self.turns[name] = self.turns.get(name, 0) + 1
        self.sessions[name] = tokens
        assert done.turn == self.turns[name]
        chain = block_chain(TAG, tokens)
        stored = self.stored(chain)
        assert done.missing == (chain[stored] if stored < len(chain) else None)
        self.drop_files(done.obsolete_files)

    @rule(name=NAMES, length=st.sampled_from([1, 5, 100, 256]))
    def write_tail(self, name, length):
        tokens = self.sessions.get(name, [7] * 5)
        chain = block_chain(TAG, tokens)
        rest = tokens[256 * len(chain) :][:length]
        file = self.new_file()
        tail = TailWritten(
            session=name,
            parent=chain[-1] if chain else root_id(TAG),
            tokens=pack_tokens(rest),
            hint=b"",
            file=file,
            size_bytes=3,
        )
        self.tails[file] = (name, tail.parent, rest)
        self.drop_files(self.run(self.catalogue.commit_tail(TAG, ("m", name), tail, self.now())))

    @rule(tokens=TOKENS, length=st.sampled_from([1, 5, 256, 261, 600]))
    def write_snapshot(self, tokens, length):
        """Known if the block in front of it is; one of a prefix is enough."""
        tokens = tokens[:length]
        if not tokens:
            return
        chain = block_chain(TAG, tokens)
        parent = chain[-1] if chain else root_id(TAG)
        place = (parent, tuple(tokens[256 * len(chain) :]))
        file = self.new_file()
        report = TailWritten(
            kind="snapshot",
            session="",
            parent=parent,
            tokens=pack_tokens(place[1]),
            hint=b"",
            file=file,
            size_bytes=3,
        )
        refused = self.run(self.catalogue.commit_tail(TAG, ("m", ""), report, self.now()))
        is_known = not chain or parent in self.blocks
        if is_known and place not in self.snapshots.values():
            assert refused == []
            self.snapshots[file] = place
        else:
            assert [one.file for one in refused] == [file]

    def draw_leased(self, data):
        return data.draw(st.sets(st.sampled_from(sorted(self.blocks)))) if self.blocks else set()

    @rule(name=NAMES, tokens=TOKENS)
    def run_turn(self, name, tokens):
        self.write_blocks(tokens, {0, 1, 2})
        self.commit_turn(name, tokens, None)
        self.write_tail(name, 256)

    @rule(name=NAMES, data=st.data())
    def delete_session(self, name, data):
        held = self.draw_leased(data)
        files = self.run(self.catalogue.delete_session("m", name, held))
        assert (files is None) == (name not in self.sessions)
        self.sessions.pop(name, None)
        self.turns.pop(name, None)
        self.drop_files(files or [], held)
        had = self.had.pop(name, set())
        if not held:
            # What another session had stays its cache: a tail of it may hang there.
            shared = {block for blocks in self.links().values() for block in blocks}
            shared |= set().union(*self.had.values())
            assert had & self.blocks.keys() <= shared, "bytes of a removed session stayed"

    @rule(size=st.sampled_from([1, 25, 1000]), data=st.data())
    def evict(self, size, data):
        held = self.draw_leased(data)
        kept = Kept(blocks=frozenset(held))
        evicted = self.run(self.catalogue.evict(size, kept, Worth.UNREFERENCED))
        self.drop_files(evicted.files, held)

    @rule(size=st.sampled_from([1, 25, 1000]), spared=st.none() | NAMES, data=st.data())
    def evict_cold(self, size, spared, data):
        """Also files of sessions go, but never those of one in use, and never into a chain."""
        held = self.draw_leased(data)
        before = self.durable_tokens(spared)
        sessions = frozenset() if spared is None else frozenset({("m", spared)})
        kept = Kept(blocks=frozenset(held), sessions=sessions)
        evicted = self.run(self.catalogue.evict(size, kept))
        for file in evicted.files:
            if self.drop_loose(file.file):
                continue
            (block,) = [known for known, name in self.blocks.items() if name == file.file]
            assert block not in held
            del self.blocks[block]
        assert self.durable_tokens(spared) == before
        if evicted.size_bytes < size and not held and spared is None:
            assert not self.blocks and not self.tails and not self.snapshots

    @rule(name=NAMES)
    def pinned_session_outlives_eviction(self, name):
        is_known = name in self.sessions
        assert self.run(self.catalogue.pin("m", name, pinned=True)) == is_known
        self.evict_pinned(name)
        self.run(self.catalogue.pin("m", name, pinned=False))

    def evict_pinned(self, name):
        before = self.durable_tokens(name)
        evicted = self.run(self.catalogue.evict(10**9, Kept()))
        gone = {file.file for file in evicted.files}
        for file in gone:
            self.drop_loose(file)
        self.blocks = {block: file for block, file in self.blocks.items() if file not in gone}
        assert self.durable_tokens(name) == before

    def durable_tokens(self, name):
        rows = self.run(self.catalogue.session_summaries())
        return next((row.durable_tokens for row in rows if row.name == name), None)

    @precondition(lambda self: self.blocks or self.tails or self.snapshots)
    @rule(data=st.data())
    def damage(self, data):
        files = sorted([*self.blocks.values(), *self.tails, *self.snapshots])
        file = data.draw(st.sampled_from(files))
        assert self.run(self.catalogue.forget_file(TAG, file))
        self.blocks = {block: other for block, other in self.blocks.items() if other != file}
        self.drop_loose(file)

    @rule()
    def reopen(self):
        self.run(self.catalogue.close())
        self.catalogue = self.run(Catalogue.open(self.path))
        assert self.catalogue.opened.damaged is None

    @rule(request_id=IDS)
    def crash(self, request_id):
        """The connection is lost in a transaction; nothing in it was acknowledged."""

        def lose(db):
            db.execute("DELETE FROM tails")
            db.execute("UPDATE sessions SET turn = turn + 1, tokens = x''")
            db.execute("DELETE FROM requests")
            db.execute("DELETE FROM session_blocks")
            db.execute("DELETE FROM snapshots")
            db.execute("DELETE FROM blocks")
            db.close()

        async def at_once():
            calls = [
                self.catalogue.meta_set("k", "v"),
                self.catalogue.finish(accept_record(request_id).key, "done", b"lost", 1.0),
                self.catalogue._thread.call(lose),
                self.catalogue.meta_set("k", "v"),
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

        results = self.run(at_once())
        assert [type(result) for result in results[2:]] == [HotseatError] * 2
        if not isinstance(results[1], HotseatError) and results[1]:
            # It was committed in a transaction of its own, before the crash.
            self.requests[request_id] = (self.requests[request_id][0], "done", b"lost")
        self.reopen()

    def drop_files(self, files, leased=()):
        """Each returned file was named before, is named no more, and nobody needs it."""
        for file in files:
            if self.drop_loose(file.file):
                continue
            (block,) = [known for known, name in self.blocks.items() if name == file.file]
            assert block not in leased
            del self.blocks[block]
            for tokens in self.sessions.values():
                chain = block_chain(TAG, tokens)
                assert block not in chain[: self.stored(chain)]

    def drop_loose(self, file):
        """True for a tail or a snapshot: nothing hangs on it."""
        is_tail = self.tails.pop(file, None) is not None
        return self.snapshots.pop(file, None) is not None or is_tail

    def stored(self, chain):
        return next((n for n, block in enumerate(chain) if block not in self.blocks), len(chain))

    @invariant()
    def files_are_all_named(self):
        named = {*self.blocks.values(), *self.tails, *self.snapshots}
        assert self.run(self.catalogue.files(TAG)) == named

    @invariant()
    def sessions_are_those_committed(self):
        found = {row.name: row for row in self.run(self.catalogue.session_summaries())}
        assert found.keys() == self.sessions.keys()
        for name, tokens in self.sessions.items():
            row = self.run(self.catalogue.session("m", name))
            assert (row.turn, row.tokens) == (self.turns[name], pack_tokens(tokens))
            assert found[name].durable_tokens <= len(tokens)
            chain = block_chain(TAG, tokens)
            assert self.run(self.catalogue.known_prefix(TAG, chain)) == self.stored(chain)
            assert self.offered(chain) == self.hanging_on(chain)

    def offered(self, chain):
        """Files that a lookup of this chain is told of."""
        parents = [root_id(TAG), *chain[: self.stored(chain)]]
        return {tail.file for tail in self.run(self.catalogue.tails_under(TAG, parents))}

    def hanging_on(self, chain):
        parents = {root_id(TAG), *chain[: self.stored(chain)]}
        tails = {file for file, tail in self.tails.items() if tail[1] in parents}
        return tails | {file for file, place in self.snapshots.items() if place[0] in parents}

    @invariant()
    def requests_ended_as_told(self):
        for request_id in ("r1", "r2", "r3"):
            row = self.run(self.catalogue.request(accept_record(request_id).key))
            known = self.requests.get(request_id)
            assert (None if row is None else (row.state, row.reply)) == (known and known[1:])

    def links(self):
        """Blocks bound to each session, in order."""

        def read(db):
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            return db.execute(
                "SELECT s.name, l.idx, l.block FROM session_blocks l"
                " JOIN sessions s ON s.id = l.session ORDER BY l.session, l.idx"
            ).fetchall()

        linked = {name: [] for name in self.sessions}
        for name, index, block in self.run(self.catalogue._thread.call(read)):
            assert index == len(linked[name])
            linked[name].append(block)
        return linked

    @invariant()
    def rows_are_consistent(self):
        for name, blocks in self.links().items():
            assert blocks == block_chain(TAG, self.sessions[name])[: len(blocks)]
            # One that went and came back is nobody's until a session is bound to it again.
            known = self.had.get(name, set()) & self.blocks.keys()
            self.had[name] = known | set(blocks)

    def teardown(self):
        if hasattr(self, "catalogue"):
            self.run(self.catalogue.close())
            self.loop.close()
            shutil.rmtree(self.folder)


TestCatalogueMachine = CatalogueMachine.TestCase
TestCatalogueMachine.settings = settings(max_examples=60, stateful_step_count=30)
