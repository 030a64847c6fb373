"""AsyncClient while the daemon hangs, vanishes and comes back."""

import asyncio

import pytest
from tests.support.peers.fake_daemon import until
from tests.support.peers.fake_views import WORDS

from hotseat.client import AsyncClient, DaemonUnreachable, RequestFailed
from hotseat.protocol.messages import Attach, Cancel, Events, Generate, Hello, Status, Swap
from hotseat.protocol.replies import Event

TEXT = "".join(WORDS)


async def test_daemon_restart_in_mid_stream_loses_and_doubles_nothing(aio, daemon):
    daemon.pause_after = 3
    stream = aio.generate("smol", prompt="x", request_id="r")
    chunks = [await anext(stream) for _ in range(3)]
    await until(daemon.vanish)
    daemon.pause_after = None
    daemon.come_back("two")
    chunks += [chunk async for chunk in stream]
    assert [token for chunk in chunks for token in chunk.tokens] == list(range(len(WORDS)))
    assert [chunk.seq for chunk in chunks] == list(range(len(WORDS)))
    assert "".join(part.text for chunk in chunks for part in chunk.parts) == TEXT
    assert aio.instances == ("one", "two")
    (attach,) = daemon.of(Attach)
    assert (attach.request_id, attach.offset_tokens) == ("r", 3)


async def test_every_connection_begins_with_hello_of_the_same_token(aio, daemon):
    await aio.status()
    await until(daemon.vanish)
    daemon.received.clear()
    daemon.come_back("two")
    await aio.status()
    messages = [message for _, message in daemon.received]
    assert [type(message) for message in messages] == [Hello, Status]
    assert messages[0].token == aio.token


async def test_request_lost_before_it_was_accepted_is_sent_again(aio, daemon):
    daemon.handlers[Generate] = lambda *_: True
    stream = aio.generate("smol", prompt="x", request_id="r")
    await until(lambda: daemon.wait_for(Generate))
    await until(daemon.vanish)
    daemon.handlers.clear()
    daemon.come_back("two")
    done = await stream.result()
    assert done.text == TEXT
    assert len(daemon.of(Attach)) == 1
    assert len(daemon.of(Generate)) == 2
    assert {request_id for request_id, m in daemon.received if isinstance(m, Generate)} == {"r"}


async def test_accepted_request_that_the_daemon_forgot_is_an_error_not_run_twice(aio, daemon):
    daemon.pause_after = 1
    stream = aio.generate("smol", prompt="x")
    await anext(stream)
    await until(daemon.vanish)
    daemon.works.clear()
    daemon.come_back("two")
    with pytest.raises(RequestFailed) as caught:
        await stream.result()
    assert caught.value.code == "request_unknown"
    assert len(daemon.of(Generate)) == 1


async def test_result_that_comes_whole_after_a_restart_is_streamed_once(aio, daemon):
    daemon.pause_after = 2
    stream = aio.generate("smol", prompt="x")
    chunks = [await anext(stream) for _ in range(2)]
    await until(daemon.vanish)

    def attach(peer, request_id, message):
        work = daemon.works[daemon._tokens[peer], request_id]
        work.sent = len(WORDS)
        daemon.send(peer, request_id, daemon._done(work, "stop"))

    daemon.handlers[Attach] = attach
    daemon.come_back("two")
    chunks += [chunk async for chunk in stream]
    assert [token for chunk in chunks for token in chunk.tokens] == list(range(len(WORDS)))
    assert "".join(part.text for chunk in chunks for part in chunk.parts) == TEXT


async def test_hung_daemon_is_noticed_by_its_missing_pongs(aio, daemon):
    stream = aio.generate("smol", prompt="x")
    await anext(stream)
    hellos = len(daemon.of(Hello))
    daemon.is_mute = True
    await until(lambda: daemon.wait_for(Hello, hellos + 1))
    daemon.is_mute = False
    assert (await stream.result()).text == TEXT


async def test_stream_gives_up_when_the_daemon_stays_away(daemon):
    daemon.pause_after = 1
    async with AsyncClient(home=daemon.home, reconnect_timeout_s=0.3) as aio:
        stream = aio.generate("smol", prompt="x")
        await anext(stream)
        await until(daemon.vanish)
        with pytest.raises(DaemonUnreachable, match="did not come back within"):
            await stream.result()


async def test_call_waits_for_a_restarting_daemon(aio, daemon):
    await until(daemon.vanish)
    asked = asyncio.create_task(aio.status())
    await asyncio.sleep(0)  # a turn of the loop, in which it asks
    daemon.come_back("two")
    assert (await asked).instance == "two"


async def test_swap_asked_again_after_a_restart_keeps_its_id(aio, daemon):
    daemon.handlers[Swap] = lambda *_: True
    asked = asyncio.create_task(aio.swap("gemma", request_id="s"))
    await until(lambda: daemon.wait_for(Swap))
    await until(daemon.vanish)
    daemon.handlers.clear()
    daemon.come_back("two")
    assert (await asked).to == "gemma"
    assert [request_id for request_id, m in daemon.received if isinstance(m, Swap)] == ["s", "s"]


async def test_events_continue_behind_the_last_one_after_a_restart(aio, daemon):
    first, second, third = (
        Event(seq=seq, at=0.0, name="swap.finished", facts={}) for seq in (1, 2, 3)
    )
    daemon.events.append(first)
    async with aio.events(since=0, topics=("swap",)) as events:
        assert (await anext(events)).seq == 1
        daemon.publish(second)
        assert (await anext(events)).seq == 2
        await until(daemon.vanish)
        daemon.events.append(third)
        daemon.come_back("two")
        assert (await anext(events)).seq == 3
    assert [message.since for message in daemon.of(Events)] == [0, 2]
    assert len(daemon.of(Cancel)) == 1
