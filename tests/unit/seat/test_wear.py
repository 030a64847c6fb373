"""When a worker is worn out, and that it is replaced at a quiet moment."""

from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import stub_daemon

from hotseat.protocol.limits import MIB
from hotseat.supervisor.seat.rules.wear import WORN_TOKENS, Wear, worn_reason


def test_tokens_of_one_epoch_add_up_and_another_begins_anew():
    wear = Wear().with_tokens(1, WORN_TOKENS - 1)
    assert worn_reason(wear) == ""
    assert "tokens" in worn_reason(wear.with_tokens(1, 1))
    assert worn_reason(wear.with_tokens(2, 1)) == ""


def test_footprint_that_creeps_is_wear_and_noise_is_not():
    wear = Wear().with_footprint(1, 1000 * MIB)
    assert worn_reason(wear.with_footprint(1, 1400 * MIB)) == ""
    assert "MiB" in worn_reason(wear.with_footprint(1, 1600 * MIB))
    assert worn_reason(wear.with_footprint(2, 1600 * MIB)) == ""


def test_worn_worker_is_replaced_when_nothing_runs_and_contexts_are_kept():
    with stub_daemon("a") as daemon:
        client = daemon.client()
        for turn in range(2):
            client.generate("a", prompt=f"{turn}" + "x" * 125_500, max_tokens=2).result()
        kept = client.generate("a", prompt="kept", session="s", max_tokens=3).result()
        wait_for(lambda: client.status().epoch == 2, what="a fresh worker")
        wait_for(lambda: client.status().phase == "ready", what="seated again")
        again = client.generate("a", append="more", session="s", max_tokens=3).result()
        assert again.usage.restored_tokens >= kept.usage.prompt_tokens
