"""The disk tier as a user meets it: a real daemon, a tiny real model, a small budget."""

import contextlib
import stat

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.errors import HotseatError

TEXT = "The keeper of the lighthouse wrote down the weather of each day and the ships that came. "
UNFED = 1
"""The last token of a full answer is not in KV yet; the next turn computes it."""


def ask(client, session, times=8, **options):
    return client.generate(
        "a",
        append=[{"role": "user", "content": f"{session}: " + TEXT * times}],
        session=session,
        max_tokens=4,
        **options,
    ).result()


def daemon_with(settings="", **options):
    daemon = LiveDaemon(settings=settings, **options)
    register_tiny(daemon.home, "a", "llama", seed=3)
    register_tiny(daemon.home, "b", "llama", seed=4)
    return daemon


def kv_bytes(daemon):
    total = 0
    for file in (daemon.home / "kv").rglob("*.kv"):
        with contextlib.suppress(FileNotFoundError):  # the daemon may remove it meanwhile
            total += file.stat().st_size
    return total


def spent(view):
    return view if view.files else None


def by_name(client):
    return {view.session: view for view in client.sessions()}


@pytest.fixture(scope="module")
def crowded():
    """Eight sessions of which the budget holds about four; `s0` is the oldest, and pinned."""
    measure = daemon_with()
    with measure:
        ask(measure.client(), "s0")
        measure.client().swap("b")
        one = kv_bytes(measure)
    daemon = daemon_with(f"[kv]\ndisk_budget_bytes = {int(4.5 * one)}\n")
    with daemon:
        client = daemon.client()
        ask(client, "s0")
        client.pin_session("a", "s0")
        for number in range(1, 8):
            ask(client, f"s{number}")
        client.swap("b")
        wait_for(lambda: kv_bytes(daemon) <= 4.5 * one, what="KV within its budget")
        yield daemon, client


def test_coldest_sessions_lose_kv_and_keep_their_messages(crowded):
    _daemon, client = crowded
    views = by_name(client)
    assert len(views) == 8
    assert views["s1"].prefill_tokens > 0
    assert views["s1"].durable_tokens < views["s1"].tokens
    assert len(client.session("a", "s1").messages) == 2
    assert views["s7"].prefill_tokens == 0


def test_pinned_session_keeps_all_its_kv_though_it_is_the_oldest(crowded):
    _daemon, client = crowded
    view = by_name(client)["s0"]
    assert view.pinned
    assert view.prefill_tokens == 0


def test_disk_tells_budget_use_and_what_was_written(crowded):
    daemon, client = crowded
    view = client.disk()
    assert view.used_bytes == kv_bytes(daemon)
    assert view.used_bytes <= view.high_bytes < view.budget_bytes
    assert 0 < view.used_bytes < view.bytes_written <= view.bytes_written_ever
    (tag,) = [tag for tag in view.tags if tag.models == ("a",)]
    assert tag.usable
    assert tag.sessions == 8
    assert 0 < tag.pinned_bytes < tag.size_bytes


def test_evicted_session_goes_on_after_a_prefill(crowded):
    _daemon, client = crowded
    before = by_name(client)["s2"]
    done = ask(client, "s2", times=1)
    assert before.prefill_tokens > 0
    # Another session's block may still begin with the same tokens.
    assert done.usage.computed_tokens > before.prefill_tokens - 256
    assert done.turn == 2


def test_removed_session_gives_its_bytes_back_at_once(crowded):
    daemon, client = crowded
    before = kv_bytes(daemon)
    freed = client.delete_session("a", "s0")
    assert freed > 0
    assert kv_bytes(daemon) == before - freed


def test_nothing_in_the_home_is_for_others_and_kv_is_marked_as_cache(crowded):
    daemon, _client = crowded
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for folder in ("kv", "sessions")
        for path in [daemon.home / folder, *(daemon.home / folder).rglob("*")]
    }
    assert modes == {(True, 0o700), (False, 0o600)}
    assert (daemon.home / "kv" / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f59")


def test_volume_below_its_floor_takes_no_kv_while_turns_still_end():
    daemon = daemon_with(f"[kv]\nfree_floor_bytes = {2**60}\n")
    with daemon:
        client = daemon.client()
        done = ask(client, "s")
        with pytest.raises(HotseatError, match="must stay free"):
            client.swap("b")
        assert done.turn == 1
        assert kv_bytes(daemon) == 0
        assert ask(client, "s", times=1).usage.restored_tokens > 0


@pytest.mark.parametrize("how", ["request", "model"])
def test_work_that_must_not_persist_leaves_nothing_on_disk_and_says_what_that_costs(how):
    daemon = daemon_with("[models.a]\npersist = false\n" if how == "model" else "")
    with daemon:
        client = daemon.client()
        options = {"persist": False} if how == "request" else {}
        done = ask(client, "secret-name", **options)
        client.swap("b")
        assert "swap costs" in done.note
        view = by_name(client)["secret-name"]
        assert (view.persist, view.prefill_tokens) == (False, view.tokens - UNFED)
        assert kv_bytes(daemon) == 0
        stored = b"".join(
            path.read_bytes()
            for path in daemon.home.rglob("*")
            if path.is_file() and path.relative_to(daemon.home).parts[0] not in ("models", "run")
        )
        assert b"lighthouse" not in stored


def test_damaged_file_is_found_put_aside_and_computed_again():
    daemon = daemon_with()
    with daemon:
        client = daemon.client()
        ask(client, "s")
        client.swap("b")
        assert client.verify_kv().damaged == ()
        file = max((daemon.home / "kv").rglob("blocks/*/*.kv"))
        data = bytearray(file.read_bytes())
        data[-100] ^= 1
        file.write_bytes(data)
        view = client.verify_kv()
        assert [entry.file for entry in view.damaged] == [
            str(file.relative_to(next((daemon.home / "kv").glob("*/blocks")).parent))
        ]
        assert not file.exists()
        assert len(list((daemon.home / "quarantine").iterdir())) == 1
        assert by_name(client)["s"].prefill_tokens > 0
        assert ask(client, "s", times=1).turn == 2


def test_gc_lists_first_and_then_removes_what_a_removed_model_left():
    daemon = daemon_with()
    with daemon:
        client = daemon.client()
        ask(client, "s")
        client.swap("b")
        (daemon.home / "models" / "a").rename(daemon.home / "a-was-here")
        before = kv_bytes(daemon)
        (tag,) = [tag for tag in client.disk().tags if tag.size_bytes]
        assert not tag.usable
        # What was in use a moment ago is spared.
        listed = wait_for(lambda: spent(client.collect_kv(dry_run=True)), what="files at rest")
        assert (listed.size_bytes, kv_bytes(daemon)) == (before, before)
        assert listed.cold_sessions == ("a/s",)
        removed = client.collect_kv()
        assert (removed.files, kv_bytes(daemon)) == (listed.files, 0)
        assert by_name(client)["s"].turn == 1


@pytest.mark.parametrize("how", ["gone", "unreadable"])
def test_catalogue_that_is_lost_comes_back_from_the_files(how):
    daemon = daemon_with()
    with daemon:
        client = daemon.client()
        stream = client.generate(
            "a",
            request_id="the-last-one",
            append=[{"role": "user", "content": TEXT * 8}],
            session="s",
            max_tokens=4,
        )
        first = stream.result()
        client.pin_session("a", "s")
        client.swap("b")
        before = client.session("a", "s")
        token = client.token
        daemon.kill()
        catalogue = daemon.home / "catalogue.sqlite"
        for side in ("-wal", "-shm"):
            catalogue.with_name(catalogue.name + side).unlink(missing_ok=True)
        if how == "gone":
            catalogue.unlink()
        else:
            catalogue.write_bytes(b"no database at all " * 1000)
        daemon.start()
        client = daemon.client(token=token)
        after = client.session("a", "s")
        assert (after.messages, after.turn, after.pinned) == (before.messages, 1, True)
        assert (after.durable_tokens, after.tokens) == (before.durable_tokens, before.tokens)
        assert client.attach("the-last-one").result().tokens == first.tokens
        again = ask(client, "s", times=1)
        assert again.turn == 2
        assert again.usage.restored_tokens == before.tokens - UNFED


def test_session_of_an_unknown_name_is_not_pinned():
    daemon = daemon_with()
    with daemon, pytest.raises(HotseatError, match="no session"):
        daemon.client().pin_session("a", "nobody")


def test_count_and_quote_tell_what_the_next_turn_restores_seated_or_away():
    more = [{"role": "user", "content": "And then?"}]
    with daemon_with(standby=True) as daemon:
        client = daemon.client()
        ask(client, "s")
        for is_away in (False, True):
            if is_away:
                client.swap("b")
                assert client.session("a", "s").prefill_tokens == 0
            else:
                wait_for(lambda: client.session("a", "s").state == "live", what="live context seen")
            wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
            counted = client.count("a", session="s", append=more)
            (quoted,) = client.quote(["a"], session="s")
            done = client.generate("a", session="s", append=more, max_tokens=4).result()
            assert done.finish_reason == "length"
            assert counted.stored_tokens == done.usage.restored_tokens
            assert quoted.stored_tokens == done.usage.restored_tokens
