"""The daemon's socket on the loop: nothing that arrived stays unseen, whatever else went wrong."""

import asyncio
import select
import time

import pytest
import zmq

from hotseat.supervisor.ports.zmq_socket import LoopSocket, bind_router

DEADLINE_S = 5.0
UNTHROTTLED_S = 0.01
"""ZeroMQ looks at its own news in a send only some milliseconds after the last time."""


@pytest.fixture
def context():
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def wait_for_edge(router):
    """Waits beside the loop, which sees nothing of it."""
    readable, _, _ = select.select([router._fd], [], [], DEADLINE_S)
    assert readable
    time.sleep(UNTHROTTLED_S)  # time is the subject: the socket throttles by it


async def hear_after_a_failed_send(context, address):
    """A message arrives, its edge is taken by a send that fails, and then the loop may run."""
    heard = asyncio.Event()
    router = LoopSocket(
        bind_router(context, address, max_frame_bytes=1024), lambda _frames: heard.set()
    )
    peer = context.socket(zmq.DEALER)
    peer.connect(address)
    try:
        await asyncio.sleep(0)  # the first look is over
        await asyncio.sleep(0)  # a turn of the loop
        peer.send_multipart([b"hello"])
        wait_for_edge(router)
        with pytest.raises(zmq.ZMQError):
            router.send([b"somebody who is gone", b"x"])
        await asyncio.wait_for(heard.wait(), DEADLINE_S)
    finally:
        router.close()
        peer.close(0)


def test_message_is_heard_though_a_send_to_somebody_gone_took_its_edge(context, tmp_path):
    asyncio.run(hear_after_a_failed_send(context, f"ipc://{tmp_path}/s"))
