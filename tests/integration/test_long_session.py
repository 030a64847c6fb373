"""Admission by padded batch, through a real daemon: one long session never pays for the others."""

import psutil
import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.limits import MIB
from hotseat.protocol.replies import Accepted

LONG = 8192
SHORT = 250
SHORT_SESSIONS = 7
REPLY_TOKENS = 250
BUDGET = 24 * MIB
"""Above the long row with its copies (16 MiB), below eight rows padded to it (50 MiB)."""


def ids(count, salt):
    return tuple(5 + (place * 7 + place // 3 + salt * 31) % 500 for place in range(count))


@pytest.mark.long
def test_session_of_8192_tokens_with_seven_short_ones_stays_within_the_admitted_bytes():
    daemon = LiveDaemon(
        settings=f"[memory]\nreserve_bytes = 1\nkv_budget_bytes = {BUDGET}\n",
    )
    record = register_tiny(daemon.home, "a", "llama")
    padded_tokens = (1 + SHORT_SESSIONS) * (LONG + REPLY_TOKENS)
    assert padded_tokens * record.kv_bytes_per_token > 2 * BUDGET
    with daemon:
        client = daemon.client()
        client.swap("a")
        # Figures come with beats: the first one after warming has what was active at load.
        loaded = wait_for(lambda: client.status().worker.active_bytes, what="a beat")
        plan = client.plan("a")
        assert (client.status().memory.kv_budget_bytes, plan.kv_budget_bytes) == (BUDGET, BUDGET)
        worker = psutil.Process(client.status().worker.pid)
        worker.suspend()  # all are there before one of them can have ended
        long = client.generate("a", session="long", tokens=ids(LONG, 0), max_tokens=REPLY_TOKENS)
        shorts = [
            client.generate("a", session=f"s{n}", tokens=ids(SHORT, n), max_tokens=REPLY_TOKENS)
            for n in range(1, SHORT_SESSIONS + 1)
        ]
        assert all(isinstance(stream.next_event(), Accepted) for stream in (long, *shorts))
        worker.resume()
        together = 1 + SHORT_SESSIONS
        wait_for(lambda: client.status().queue.running == together, 60, "all of them running")
        results = [stream.result() for stream in (long, *shorts)]
        # A beat that knows all sessions as idle came after the last step.
        wait_for(lambda: client.status().worker.live_sessions == len(results), what="last beat")
        peak = client.status().worker.peak_bytes - loaded
    assert [r.usage.completion_tokens for r in results] == [REPLY_TOKENS] * len(results)
    assert results[0].usage.prompt_tokens == LONG
    assert [r.finish_reason for r in results] == ["length"] * len(results)
    # A chunk's scores over 8,192 tokens are the plan's prefill peak, not KV.
    assert peak <= BUDGET + plan.prefill_peak_bytes
