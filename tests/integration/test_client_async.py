"""AsyncClient against a daemon made of a real socket and a script."""

import asyncio
import gc
import threading

import psutil
import pytest
from tests.support.peers.fake_daemon import FakeDaemon, until
from tests.support.peers.fake_views import SESSION, WORDS, swap_report

from hotseat.client import AsyncClient, DaemonUnreachable, HotseatError, RequestFailed
from hotseat.protocol.messages import Cancel, Credit, Events, Generate, Hello, Status
from hotseat.protocol.replies import Accepted, Chunk, ErrorBody, Event, Gap, Progress, Welcome

TEXT = "".join(WORDS)


async def test_generate_yields_every_chunk_and_the_result(aio):
    stream = aio.generate("smol", prompt="The capital")
    chunks = [chunk async for chunk in stream]
    done = await stream.result()
    assert [token for chunk in chunks for token in chunk.tokens] == list(range(len(WORDS)))
    assert done.text == TEXT
    assert done.finish_reason == "stop"
    assert stream.accepted.seed == 7


async def test_generate_text_yields_text_only(aio):
    assert [piece async for piece in aio.generate("smol", prompt="x").text()] == list(WORDS)


async def test_generate_events_come_in_order(aio):
    kinds = [type(event) async for event in aio.generate("smol", prompt="x").events()]
    assert kinds == [Accepted, Progress, *[Chunk] * len(WORDS)]


async def test_generate_progress_reaches_the_callback(aio):
    seen = []
    await aio.generate("smol", prompt="x", on_progress=seen.append).result()
    assert [progress.phase for progress in seen] == ["prefill"]


async def test_generate_sends_what_the_caller_wrote(aio, daemon):
    await aio.generate(
        "smol",
        session="s",
        append=[{"role": "user", "content": "hi"}],
        max_tokens=5,
        temperature=0.5,
        seed=3,
        stop="END",
    ).result()
    (request,) = daemon.of(Generate)
    assert request.append[0].content == "hi"
    assert request.session == "s"
    assert request.max_tokens == 5
    assert (request.sampling.temperature, request.sampling.seed) == (0.5, 3)
    assert request.stop == ("END",)


async def test_daemon_error_is_raised_with_its_facts(aio):
    with pytest.raises(RequestFailed) as caught:
        await aio.generate("smoll", prompt="x").result()
    assert caught.value.code == "unknown_model"
    assert caught.value.facts == {"near": ["smol"]}


async def test_error_facts_may_have_any_name(aio, daemon):
    def refuse(peer, request_id, _):
        body = ErrorBody(code="unsupported_content", message="no", facts={"message": 1, "code": 2})
        daemon.send(peer, request_id, body)

    daemon.handlers[Generate] = refuse
    with pytest.raises(RequestFailed) as caught:
        await aio.generate("smol", prompt="x").result()
    assert caught.value.facts == {"message": 1, "code": 2}


async def test_options_out_of_range_are_refused_before_sending(aio, daemon):
    with pytest.raises(HotseatError, match="max_tokens") as caught:
        aio.generate("smol", prompt="x", max_tokens=-1)
    assert caught.value.code == "invalid_request"
    with pytest.raises(HotseatError, match="1-64 characters"):
        aio.generate("smol", prompt="x", request_id="no spaces")
    await aio.status()
    assert daemon.of(Generate) == []


async def test_body_over_the_limit_is_refused_before_sending(aio, daemon):
    with pytest.raises(HotseatError, match="exceeds the limit of 8388608") as caught:
        aio.generate("smol", prompt="x" * (8 * 1024 * 1024))
    assert caught.value.facts["limit_bytes"] == 8 * 1024 * 1024
    await aio.status()
    assert daemon.of(Generate) == []


async def test_text_that_is_no_unicode_is_refused_before_sending(aio):
    with pytest.raises(HotseatError, match="cannot be packed"):
        aio.generate("smol", prompt="\ud800")


async def test_one_id_twice_at_once_is_refused(aio, daemon):
    daemon.pause_after = 1
    async with aio.generate("smol", prompt="x", request_id="r"):
        with pytest.raises(HotseatError, match="open in this client"):
            aio.generate("smol", prompt="x", request_id="r")


async def test_cancel_ends_the_stream_as_done(aio, daemon):
    daemon.pause_after = 2
    stream = aio.generate("smol", prompt="x")
    await anext(stream)
    assert await stream.cancel() is True
    done = await stream.result()
    assert done.finish_reason == "cancelled"
    assert done.text == WORDS[0] + WORDS[1]


async def test_leaving_a_stream_early_cancels_it(aio, daemon):
    daemon.pause_after = 2
    async with aio.generate("smol", prompt="x", request_id="r") as stream:
        await anext(stream)
    assert [cancel.request_id for cancel in daemon.of(Cancel)] == ["r"]
    assert stream._flow._exchange.result.finish_reason == "cancelled"


async def test_leaving_a_finished_stream_cancels_nothing(aio, daemon):
    async with aio.generate("smol", prompt="x") as stream:
        await stream.result()
    await aio.status()
    assert daemon.of(Cancel) == []


async def test_cancel_of_unknown_work_is_false(aio):
    assert await aio.cancel("nothing") is False


async def test_call_without_an_answer_times_out(daemon):
    async with AsyncClient(home=daemon.home, call_timeout_s=0.2) as aio:
        daemon.handlers[Status] = lambda *_: True
        with pytest.raises(HotseatError, match="no answer to status") as caught:
            await aio.status()
        assert caught.value.code == "deadline_exceeded"


async def test_credit_is_granted_when_half_of_the_window_is_consumed(home):
    with FakeDaemon(home, words=tuple(f"word {number} " for number in range(300))) as daemon:
        async with AsyncClient(home=home, window_bytes=1000) as aio:
            stream = aio.generate("smol", prompt="x", request_id="r")
            done = await stream.result()
            assert done.tokens == tuple(range(300))
        (work,) = daemon.works.values()
        assert daemon.of(Generate)[0].credit_bytes == 1000
        assert min(work.grants) >= 500
        assert sum(work.grants) <= work.sent_bytes


async def test_nothing_is_granted_while_nobody_reads(home):
    with FakeDaemon(home, words=("long text " * 20,) * 50) as daemon:
        async with AsyncClient(home=home, window_bytes=1000) as aio:
            stream = aio.generate("smol", prompt="x", request_id="r")
            await aio.status()
            await aio.status()
            (work,) = daemon.works.values()
            assert daemon.of(Credit) == []
            assert work.sent < 10
            assert len((await stream.result()).tokens) == 50


async def test_many_streams_at_once_do_not_mix(aio):
    async def one(number):
        stream = aio.generate("smol", prompt="x", request_id=f"r{number}")
        return [token async for chunk in stream for token in chunk.tokens]

    results = await asyncio.gather(*(one(number) for number in range(50)))
    assert results == [list(range(len(WORDS)))] * 50


async def test_attach_joins_kept_work_from_an_offset(aio):
    await aio.generate("smol", prompt="x", request_id="r").result()
    stream = aio.attach("r", 4)
    assert [token async for chunk in stream for token in chunk.tokens] == [4, 5, 6]
    assert (await stream.result()).text == TEXT


async def test_another_client_with_the_token_continues_the_work(aio, daemon):
    daemon.pause_after = 2
    stream = aio.generate("smol", prompt="x", request_id="r")
    await anext(stream)
    await aio.close()
    daemon.pause_after = None
    async with AsyncClient(home=daemon.home, token=aio.token) as other:
        joined = other.attach("r")
        assert "".join([piece async for piece in joined.text()]) == TEXT


async def test_reads_return_typed_views(aio, daemon):
    assert (await aio.status()).model == "smol"
    assert [model.name for model in await aio.models()] == ["smol", "gemma", "mamba"]
    assert [session.session for session in await aio.sessions()] == ["agent"]
    assert (await aio.session("smol", "agent")).messages[1]["content"] == "hello"
    assert (await aio.plan("smol")).binding == "working set"
    assert await aio.delete_session("smol", "agent") == SESSION.bytes_on_disk


async def test_answer_of_another_shape_is_a_typed_error(aio, daemon):
    from hotseat.protocol.replies import Reply

    daemon.handlers[Status] = lambda peer, rid, _: daemon.send(peer, rid, Reply(result={"x": 1}))
    with pytest.raises(HotseatError, match="different versions"):
        await aio.status()


async def test_swap_reports_phases_and_result(aio):
    seen = []
    report = await aio.swap("gemma", on_progress=seen.append)
    assert [progress.phase for progress in seen] == ["draining", "loading", "warming"]
    assert report == swap_report("gemma")


async def test_gap_is_passed_on_and_later_events_follow(aio, daemon):
    def answer(peer, request_id, _):
        daemon.send(peer, request_id, Gap(since=1, next_seq=9, status={"running": True}))
        daemon.send(peer, request_id, Event(seq=9, at=0.0, name="x.y", facts={}))

    daemon.handlers[Events] = answer
    async with aio.events(since=1) as events:
        assert isinstance(await anext(events), Gap)
        assert (await anext(events)).seq == 9


async def test_shutdown_returns_when_the_daemon_goes(aio, daemon):
    await aio.shutdown()
    assert not (daemon.home / "run" / "endpoint.json").exists()


async def test_shutdown_that_kills_before_it_answers_returns_too(aio, daemon):
    from hotseat.protocol.messages import Shutdown

    daemon.handlers[Shutdown] = lambda *_: daemon.vanish() or True
    await aio.shutdown()


async def test_no_endpoint_file_says_how_to_start(home):
    with pytest.raises(DaemonUnreachable, match=r"daemon not running.*hotseat serve"):
        await AsyncClient(home=home).connect()


@pytest.mark.alone
async def test_stale_endpoint_file_is_given_up_in_time(daemon):
    await until(daemon.vanish)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(DaemonUnreachable, match="daemon not running: no answer"):
        await AsyncClient(home=daemon.home).connect()
    took_s = loop.time() - started
    # Time is the subject: a daemon that starts has the two seconds, a caller waits no longer.
    assert took_s > 1.9, "given up before WELCOME_S"
    assert took_s < 4, "waited far beyond WELCOME_S"


async def test_silent_daemon_is_given_up_in_time(daemon):
    daemon.is_mute = True
    with pytest.raises(DaemonUnreachable, match=r"within 0\.2 s"):
        await AsyncClient(home=daemon.home, connect_timeout_s=0.2).connect()


async def test_refused_hello_is_raised_as_it_is(daemon):
    daemon.handlers[Hello] = lambda peer, request_id, _: daemon.fail(
        peer, request_id, "version_mismatch", "protocol 1 is not spoken here"
    )
    with pytest.raises(RequestFailed) as caught:
        await AsyncClient(home=daemon.home).connect()
    assert caught.value.code == "version_mismatch"


async def test_frames_of_a_newer_daemon_do_not_disturb(aio, daemon):
    def chatter(peer, request_id, _):
        daemon._socket.send_multipart([peer, b"1", b"poem", request_id.encode(), b"\x80"])
        daemon._socket.send_multipart([peer, b"garbage"])
        return False

    daemon.handlers[Generate] = chatter
    assert (await aio.generate("smol", prompt="x").result()).text == TEXT


async def test_closing_leaves_no_thread_task_or_descriptor_behind(daemon):
    async with AsyncClient(home=daemon.home) as aio:
        await aio.status()
    gc.collect()
    before = (threading.active_count(), psutil.Process().num_fds(), len(asyncio.all_tasks()))
    for _ in range(5):
        async with AsyncClient(home=daemon.home) as aio:
            await aio.generate("smol", prompt="x").result()
            await aio.status()
    await until(lambda: daemon.wait_for(Hello, 6))
    gc.collect()
    after = (threading.active_count(), psutil.Process().num_fds(), len(asyncio.all_tasks()))
    assert after[0] <= before[0] + 1  # the executor thread of `until`
    assert after[2] == before[2]
    assert after[1] <= before[1] + 1  # the daemon's side may still hold the last connection


async def test_closing_fails_what_is_open(aio, daemon):
    daemon.pause_after = 1
    stream = aio.generate("smol", prompt="x")
    await anext(stream)
    await aio.close()
    with pytest.raises(DaemonUnreachable, match="closed"):
        await stream.result()


async def test_welcome_tells_instance_and_limits(aio):
    assert isinstance(aio.welcome, Welcome)
    assert aio.welcome.instance == "one"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ipc://", "ipc:///" + "x" * 200])
async def test_address_that_cannot_be_is_refused(address):
    with pytest.raises(HotseatError) as caught:
        await AsyncClient(endpoint=address).connect()
    assert caught.value.code == "invalid_request"
