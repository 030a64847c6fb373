"""The client's socket on an event loop: however much arrives, the loop gets its turns."""

import asyncio

import zmq

from hotseat.client.wire import BURST, Wire

MESSAGES = 40 * BURST


async def test_flood_of_messages_leaves_turns_to_others(tmp_path):
    context = zmq.Context()
    daemon = context.socket(zmq.ROUTER)
    daemon.setsockopt(zmq.LINGER, 0)
    daemon.setsockopt(zmq.SNDHWM, 0)
    address = f"ipc://{tmp_path}/s"
    daemon.bind(address)
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)  # what is counted: turns of the loop

    found = []
    with Wire(context, address, found.append) as wire:
        await wire.send([b"hello"])
        routing, _ = await asyncio.to_thread(daemon.recv_multipart)
        for number in range(MESSAGES):
            daemon.send_multipart([routing, b"%d" % number])
        counting = asyncio.create_task(count_turns())
        async with asyncio.timeout(60):
            while len(found) < MESSAGES:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)  # a turn of the loop
        counting.cancel()
    daemon.close()
    context.term()
    assert found == [[b"%d" % number] for number in range(MESSAGES)]
    assert turns >= MESSAGES // BURST - 1, "one between two bursts"


async def test_message_that_arrives_while_another_is_sent_is_received(tmp_path):
    context = zmq.Context()
    daemon = context.socket(zmq.ROUTER)
    daemon.setsockopt(zmq.LINGER, 0)
    daemon.bind(f"ipc://{tmp_path}/s")
    found = asyncio.Queue()
    with Wire(context, f"ipc://{tmp_path}/s", found.put_nowait) as wire:
        for number in range(200):
            await wire.send([b"%d" % number])
            routing, said = await asyncio.to_thread(daemon.recv_multipart)
            daemon.send_multipart([routing, said])
            async with asyncio.timeout(5):
                assert await found.get() == [b"%d" % number]
    daemon.close()
    context.term()


async def test_end_of_the_listener_is_noticed(tmp_path):
    context = zmq.Context()
    daemon = context.socket(zmq.ROUTER)
    daemon.bind(f"ipc://{tmp_path}/s")
    with Wire(context, f"ipc://{tmp_path}/s", lambda _frames: None) as wire:
        await wire.send([b"hello"])
        await asyncio.to_thread(daemon.recv_multipart)
        daemon.close(0)
        async with asyncio.timeout(5):
            await wire.lost()
    context.term()
