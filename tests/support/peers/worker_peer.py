"""The supervisor's end of the link for tests of one worker process: a socket, a pipe, a child."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from hotseat.protocol.ids import Epoch, RequestKey, Tag
from hotseat.protocol.link import LinkFrame, LinkReader, decode_from_worker, encode_link
from hotseat.protocol.link_orders import Load, Reseat, Start, TextInput, ToWorker
from hotseat.protocol.link_reports import Beat, FromWorker
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import LayerSpec, ModelRecord
from tests.support.models.records import model_record
from tests.support.stub_worker import COMMAND

REAL = [sys.executable, "-m", "hotseat.worker"]
T = TypeVar("T")


class LinkEnd:
    """A listening socket, and whoever connected to it first."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._peer: socket.socket | None = None
        self._reader = LinkReader()
        self._frames: deque[LinkFrame] = deque()

    def receive(self, timeout_s: float) -> LinkFrame:
        """The next frame. Raises TimeoutError, and EOFError when the other end is gone."""
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            data = self._connected(deadline).recv(1 << 16)
            if not data:
                raise EOFError
            self._frames.extend(self._reader.feed(data))
        return self._frames.popleft()

    def send(self, data: bytes) -> None:
        """Waits until the socket took it."""
        peer = self._connected(time.monotonic() + 10)
        peer.settimeout(10)
        peer.sendall(data)

    def close(self) -> None:
        for one in (self._peer, self._listener):
            if one is not None:
                one.close()

    def _connected(self, deadline: float) -> socket.socket:
        left_s = max(0.001, deadline - time.monotonic())
        if self._peer is None:
            self._listener.settimeout(left_s)
            self._peer, _ = self._listener.accept()
        self._peer.settimeout(left_s)
        return self._peer


class WorkerPeer:
    """Starts `command` with the link arguments; a context manager that leaves no child."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str] = tuple(COMMAND),
        *,
        epoch: int = 1,
        env: dict[str, str] | None = None,
        extra: Sequence[str] = (),
        secret: bytes | None = None,
    ) -> None:
        self.epoch = Epoch(epoch)
        self.secret = secrets.token_hex(16)
        self.seen: list[FromWorker] = []
        self._left: set[Epoch] = set()
        path = folder / f"link-{secrets.token_hex(4)}.sock"
        self._end = LinkEnd(path)
        reader, self._writer = os.pipe()
        os.write(self._writer, self.secret.encode() if secret is None else secret)
        arguments = ["--link", str(path), "--epoch", str(epoch), "--token-fd", str(reader)]
        self.process = subprocess.Popen(
            [*command, *arguments, *extra],
            pass_fds=[reader],
            env=os.environ | (env or {}),
            stderr=subprocess.PIPE,
        )
        os.close(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.close_pipe()
        self._end.close()

    def close_pipe(self) -> None:
        """What the supervisor's death does."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def send(self, message: ToWorker, *, epoch: int | None = None) -> None:
        self._end.send(encode_link(Epoch(self.epoch if epoch is None else epoch), message))

    def reseat(self, epoch: int) -> None:
        """From here on the worker is the one of `epoch`; what it still says as another is late."""
        self.send(Reseat(epoch=Epoch(epoch)))
        self._left.add(self.epoch)
        self.epoch = Epoch(epoch)

    def receive(self, timeout_s: float = 10.0) -> FromWorker:
        """The next message of the epoch, beats included."""
        epoch = None
        while epoch is None or epoch in self._left:
            try:
                frame = self._end.receive(timeout_s)
            except TimeoutError:
                raise TimeoutError(f"nothing in {timeout_s} s; seen: {self.kinds()}") from None
            epoch, message = frame.epoch, decode_from_worker(frame.body)
        assert epoch == self.epoch
        self.seen.append(message)
        return message

    def wait_for(
        self, kind: type[T], where: Callable[[T], bool] = lambda _: True, timeout_s: float = 20.0
    ) -> T:
        """The next message of `kind`; the others stay in `seen`."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if isinstance(message, kind) and where(message):
                return message
        raise TimeoutError(f"no {kind.__name__} in {timeout_s} s; seen: {self.kinds()}")

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.seen if not isinstance(message, Beat)]

    def wait_exit(self, timeout_s: float = 10.0) -> int:
        return self.process.wait(timeout_s)

    def stderr(self) -> str:
        """All of it; only after the exit."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


def fake_record(name: str = "a", *, tag: str = "aa" * 16, context: int = 4096) -> ModelRecord:
    """A record for the stub: no files behind it."""
    return model_record(
        name,
        tag=Tag(tag),
        weights_bytes=1_000_000,
        context_tokens=context,
        vocab_size=32_000,
        layers=(LayerSpec(kind="full", kv_heads=1, k_dim=8, v_dim=8),),
    )


def load(record: ModelRecord, kv_dir: Path) -> Load:
    return Load(
        record=record,
        kv_dir=str(kv_dir),
        kv_budget_bytes=1 << 30,
        cache_limit_bytes=1 << 28,
        memory_limit_bytes=1 << 32,
    )


def start(
    request: str,
    text: str,
    *,
    session: str | None = "s",
    context: bytes = b"",
    hint: bytes = b"",
    max_tokens: int | None = None,
    stop: tuple[str, ...] = (),
    persist: bool = True,
) -> Start:
    return Start(
        request=RequestKey(request),
        session=session,
        context=context,
        hint=hint,
        input=TextInput(text=text),
        clock=0.0,
        sampling=Sampling(),
        seed=1,
        stop=stop,
        max_tokens=max_tokens,
        persist=persist,
    )
