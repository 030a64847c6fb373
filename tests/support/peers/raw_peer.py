"""A client that may send anything: bare frames to a daemon, typed messages back."""

import os

import msgpack
import zmq

from hotseat.protocol.codec import decode_daemon, encode_client, open_envelope
from hotseat.protocol.messages import ClientInfo, Hello, Ping
from hotseat.protocol.replies import Chunk, Done, ErrorBody, Progress, SwapReport, Welcome

ANSWER_S = 30.0
"""Until a daemon counts as one that does not answer, on a machine that others use as well."""
ALIVE = "alive"
"""Id of the pings that a peer sends while it waits for an answer."""
ENDS = (Done, ErrorBody, SwapReport)


class RawPeer:
    """One DEALER. It pings while it waits in `answer`, else only when told to.

    A daemon that sees no pings for three seconds thinks we vanished.
    """

    def __init__(self, address, *, hello=True, token=None):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.connect(address)
        self.address = address
        self.token = token
        self._aside = []
        if hello:
            self.greet(token)

    def greet(self, token=None):
        info = ClientInfo(name="raw", pid=os.getpid())
        self.say(Hello(protocol=1, client=info, token=token), "hello")
        welcome = self.answer("hello")
        assert isinstance(welcome, Welcome), welcome
        self.token = welcome.token
        return welcome

    def send(self, *frames):
        self._socket.send_multipart(frames)

    def say(self, message, request_id="r"):
        self.send(*encode_client(message, request_id))

    def pack(self, kind, body, request_id="r"):
        """A body that no struct would make."""
        self.send(b"1", kind.encode(), request_id.encode(), msgpack.packb(body))

    def ping(self):
        self.say(Ping(), "ping")

    def receive(self, timeout_s=ANSWER_S):
        """The next message as (request id, message); None when nothing comes."""
        if not self._socket.poll(timeout_s * 1000):
            return None
        envelope = open_envelope(self._socket.recv_multipart())
        return envelope.request_id, decode_daemon(envelope)

    def answer(self, request_id, timeout_s=ANSWER_S):
        """The next message for that request, progress notes apart; others wait for their turn."""
        for place, (name, message) in enumerate(self._aside):
            if name == request_id:
                del self._aside[place]
                return message
        while True:
            got = self.receive(timeout_s)
            assert got is not None, f"nothing came for {request_id} within {timeout_s} s"
            if isinstance(got[1], Progress):
                self.say(Ping(), ALIVE)
                continue
            if got[0] == ALIVE:
                continue
            if got[0] == request_id:
                return got[1]
            self._aside.append(got)

    def until_end(self, request_id):
        """Everything for that request up to its end, progress notes apart."""
        messages = [self.answer(request_id)]
        while not isinstance(messages[-1], ENDS):
            messages.append(self.answer(request_id))
        return messages

    def ends_of(self, request_ids):
        """The last message for each of these requests, in any order of their ends."""
        return {name: self.until_end(name)[-1] for name in request_ids}

    def nothing_aside(self, *request_ids):
        """True when nothing else came for these requests than what was taken."""
        return not any(name in request_ids for name, _ in self._aside)

    def silence(self, timeout_s):
        """True when nothing but progress notes comes for so long."""
        got = self.receive(timeout_s)
        while got is not None:
            if not isinstance(got[1], Progress) and got[0] != ALIVE:
                return False
            got = self.receive(timeout_s)
        return True

    def close(self):
        if not self._context.closed:
            self._context.destroy(linger=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tokens_of(messages):
    """Completion tokens of a stream; a token that comes twice is an error."""
    tokens = []
    for message in messages:
        if isinstance(message, Chunk):
            assert message.offset_tokens == len(tokens), "gap or repetition"
            tokens += message.tokens
    return tokens


def text_of(messages):
    return "".join(
        part.text for message in messages if isinstance(message, Chunk) for part in message.parts
    )
