"""The daemon's socket on the loop: nothing that arrived stays unseen, whatever else went wrong."""

import asyncio
import select
import socket
import time

import pytest
import zmq

from hotseat.protocol.link_socket import BUFFER_BYTES
from hotseat.supervisor.ports import zmq_socket
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


def test_listener_of_a_mac_is_widened_before_anybody_connects(context, tmp_path, monkeypatch):
    """Connections have the buffers of their listener there; ZeroMQ sets none of ipc sockets."""
    path, widened = tmp_path / "s", []
    path.write_bytes(b"left by a daemon that was killed")

    def widen(listener):
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        widened.append((listener.family, is_listening))

    monkeypatch.setattr(zmq_socket, "widen", widen)
    router = bind_router(context, f"ipc://{path}", max_frame_bytes=1 << 20, is_narrow=True)
    assert widened == [(socket.AF_UNIX, 0)]
    for _ in range(2):  # the socket stays for the next client
        with context.socket(zmq.DEALER) as peer:
            peer.connect(f"ipc://{path}")
            peer.send(bytes(BUFFER_BYTES))
            sender, body = router.recv_multipart()
            router.send_multipart([sender, body])
            assert peer.poll(DEADLINE_S * 1000) and len(peer.recv()) == BUFFER_BYTES


def test_address_that_cannot_be_bound_is_told_as_zeromq_tells_it(context, tmp_path):
    for is_narrow in (False, True):
        with pytest.raises(zmq.ZMQError):
            bind_router(
                context, f"ipc://{tmp_path}/no/s", max_frame_bytes=1024, is_narrow=is_narrow
            )
