"""A home whose daemon and workers fail at named points, and the story they are made to fail in.

Two models, "a" and "b". Failpoints are armed by token files: `arm` makes one, and whichever
process passes that point next uses it up. `audit` looks at what is on disk afterwards.
"""

import asyncio
import contextlib
import json
import sqlite3
import threading
import time
import uuid

import psutil

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import QUIET, register
from tests.support.daemons.watching import Background, lives

QUICK = "[deadlines]\ngrace_s = 0.05\nexit_drain_s = 0.2\n"
LONG = "once upon a time there was a seat"
LONG_TOKENS = {"stub": 60, "real": 400}
TURN = "x" * 300 + " the keeper of the lighthouse wrote down the weather of each day " * 4
SLOW = {"slow_token_s": 0.005, "reply_tokens": 100_000}
CODES = {
    "interrupted",
    "worker_lost",
    "model_unavailable",
    "model_quarantined",
    "draining",
    "shutting_down",
    "memory_pressure",
    "disk_full",
    "seat_taken",
    "internal",
}
"""How a swap that met a fault may end."""


class FaultHome(LiveDaemon):
    """A daemon with stub or real workers that can be told to fail, and that is started again."""

    def __init__(self, worker="stub", *, settings="", do="kill", seconds=0.0, **faults):
        stub = SLOW | faults if worker == "stub" else None
        super().__init__(stub=stub, settings=QUIET + settings + ("" if settings else QUICK))
        self._base = super().environment()
        self.worker = worker
        self.tokens = self.base / "tokens"
        self.tokens.mkdir()
        self.do = do
        self.seconds = seconds
        self.armed = failpoints.POINTS
        self.deaths = 0
        self.recovery_s = []
        self._is_reviving = threading.Event()
        self._reviver = None
        if worker == "stub":
            register(self, "a", "b")
        else:
            from tests.support.models.tiny_models import register_tiny

            register_tiny(self.home, "a", "llama", seed=1)
            register_tiny(self.home, "b", "llama", seed=2)

    def environment(self):
        points = [
            {
                "at": name,
                "do": self.do,
                "seconds": self.seconds,
                "token": str(self.tokens / name),
            }
            for name in sorted(self.armed)
        ]
        # What it was when the home was made: a home may outlive the test that starts it again.
        return self._base | {failpoints.VARIABLE: json.dumps(points)}

    def arm(self, point):
        assert point in self.armed
        (self.tokens / point).touch()

    def has_fired(self, point):
        return not (self.tokens / point).exists()

    # --- coming back ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def revived(self):
        """While the block runs, a daemon that died is started again, as launchd does it."""
        self._is_reviving.set()
        self._reviver = Background(self._revive)
        try:
            yield
        finally:
            self._is_reviving.clear()
            self._reviver.result()

    def _revive(self):
        while self._is_reviving.is_set():
            if self.process.poll() is not None:
                self.deaths += 1
                began = time.monotonic()
                self.start()
                self.recovery_s.append(time.monotonic() - began)
            time.sleep(0.005)  # between two looks whether it lives


def outcome(call, *args, **options):
    """What a call gave, or the error it raised."""
    try:
        return call(*args, **options)
    except HotseatError as error:
        return error


class Story:
    """A swap with a suspended request and an idle session, the same every time."""

    def __init__(self, home, client):
        self.home = home
        self.client = client
        self.session = ""
        self.count = LONG_TOKENS[home.worker]
        client.swap("a")
        self.long = self.begin_long().result().tokens
        self.turns = [self.first_turn(), self.next_turn()]
        assert len(self.long) == self.count

    def begin_long(self):
        """A request that runs long enough to be suspended."""
        return self.client.generate(
            "a",
            prompt=LONG,
            max_tokens=self.count,
            session=f"l{uuid.uuid4().hex[:8]}",
            seed=1,
            on_vanish="finish",
        )

    def first_turn(self):
        """Of a new session, which has a full block and a tail then."""
        self.session = f"s{uuid.uuid4().hex[:8]}"
        return self._turn(1, prompt=TURN)

    def next_turn(self):
        """Of the same session."""
        return self._turn(2, append=" and")

    def _turn(self, number, **text):
        made = self.client.generate("a", session=self.session, max_tokens=8, seed=1, **text)
        done = made.result()
        assert done.turn == number
        return done

    def run(self, point, act=lambda: None):
        """Once through, failing at `point` or by `act`; raises when a promise was broken."""
        first = self.first_turn()
        assert first.tokens == self.turns[0].tokens
        stream = self.begin_long()
        while not stream.offset_tokens:
            next(stream)
        if point is not None:
            self.home.arm(point)
        swap = Background(outcome, self.client.swap, "b")
        act()
        swapped = swap.result(60)
        assert not isinstance(swapped, HotseatError) or swapped.code in CODES, swapped
        done = stream.result()
        assert done.tokens == self.long, f"{point}: other tokens than without a fault"
        assert done.finish_reason == "length"
        more = self.next_turn()
        assert more.tokens == self.turns[1].tokens, f"{point}: the session went on differently"
        assert more.usage.restored_tokens >= 256, f"{point}: an acknowledged block was lost"
        assert point is None or self.home.has_fired(point), f"{point} was not passed"
        # Undone or done: either way the next swap works, and ends what counts against b.
        assert self.client.swap("b").to == "b"
        assert self.client.swap("a").to == "a"
        return swapped


def audit(home):
    """Of a stopped home: every row has its file, whole and right; every request has ended."""

    async def unfinished():
        catalogue = await Catalogue.open(home.home / "catalogue.sqlite")
        try:
            return [row.request_id for row in await catalogue.unfinished()]
        finally:
            await catalogue.close()

    assert asyncio.run(unfinished()) == []
    assert processes_of(home.home) == [], "a process of this home lives on"
    count = 0
    for tag, file, parent, tokens in stored_files(home.home):
        path = home.home / "kv" / tag / file
        assert path.exists(), f"acknowledged, and gone: {file}"
        if home.worker == "real":
            from hotseat.worker.store.kv_file import read_kv

            found = read_kv(
                path.parents[len(file.split("/")) - 1], file, tag=tag, parent=parent, tokens=tokens
            )
            assert found.parts
        else:
            assert json.loads(path.read_bytes())["tag"] == tag
        count += 1
    leftovers = list((home.home / "kv").rglob("*.tmp"))
    return count, leftovers


def processes_of(home):
    """Pids that have this home in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOTSEAT_HOME") == str(home):
                found.append(process.pid)
    return found


def stored_files(home):
    """(tag, file, parent, tokens or None) of every block and tail in the catalogue."""
    with contextlib.closing(sqlite3.connect(home / "catalogue.sqlite")) as db:
        blocks = db.execute("SELECT tag, file, parent, NULL FROM blocks").fetchall()
        return blocks + db.execute("SELECT tag, file, parent, tokens FROM tails").fetchall()


def workers_gone(workers, limit_s):
    """Seconds until these processes are gone; fails after `limit_s` and a moment."""
    began = time.monotonic()
    wait_for(lambda: not any(lives(worker) for worker in workers), limit_s, "workers gone")
    return time.monotonic() - began
