"""R5: the old worker is told to stop only when what it wrote is in the catalogue."""

import sqlite3

from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import stub_daemon
from tests.support.daemons.watching import Background

POLLS = 40


def test_worker_is_not_stopped_before_its_checkpoint_is_committed():
    with stub_daemon(["a", "b"], slow_token_s=0.02) as daemon, daemon.client() as client:
        first = client.generate("a", prompt="keep this", session="s", max_tokens=5).result()
        before = client.status()
        # Nothing of this request is stored, so it ends while the catalogue cannot be written.
        stream = client.generate("a", prompt="drain", max_tokens=60, persist=False)
        with daemon.held("token"):
            next(iter(stream))
            swapping = Background(daemon.client().swap, "b")
            wait_for(lambda: client.status().phase == "draining", what="drain")
            catalogue = sqlite3.connect(daemon.home / "catalogue.sqlite", isolation_level=None)
            catalogue.execute("BEGIN IMMEDIATE")
        try:
            stream.result()
            wait_for(lambda: client.status().phase != "draining", what="checkpoint")
            for _ in range(POLLS):
                now = client.status()
                assert (now.phase, now.model) == ("checkpointing", "a")
                assert now.worker.pid == before.worker.pid
        finally:
            catalogue.execute("ROLLBACK")
            catalogue.close()
        assert swapping.result().sessions_checkpointed == 1
        again = client.generate("a", append=" and go on", session="s", max_tokens=5).result()
        held = first.usage.prompt_tokens + first.usage.completion_tokens
        assert again.usage.restored_tokens == held
