"""Keeps one client connected: looks the daemon up, talks, and comes back after a loss.

Decides nothing about messages; `Dialogue` does. Runs in the event loop that called `connect`.
"""

import asyncio
import random
from pathlib import Path
from typing import Final, TypeVar

import zmq

from hotseat.client.dialogue import Dialogue
from hotseat.client.endpoint import HOW_TO_START, check_address, find_address
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.exchange import Exchange
from hotseat.client.flow import Flow
from hotseat.client.wire import Wire
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken
from hotseat.protocol.messages import ClientInfo
from hotseat.protocol.replies import Welcome

Item = TypeVar("Item")
Result = TypeVar("Result")
_TICK_S: Final = 0.1
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


class Connection:
    """Dialogue, sockets and the tasks that move frames between them."""

    def __init__(
        self,
        endpoint: str | None,
        home: Path | None,
        token: ClientToken,
        info: ClientInfo,
        connect_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._home = home
        self._connect_timeout_s = connect_timeout_s
        self._outgoing = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._away = asyncio.Event()
        """Set while there is no connection: only then somebody runs out of patience."""
        self._away.set()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pause_s = _FIRST_PAUSE_S
        self.dialogue = Dialogue(token, info, self._outgoing.set)

    async def connect(self) -> Welcome:
        """Waits for a Welcome within the connect timeout; raises DaemonUnreachable otherwise."""
        if self._context is None:
            self.dialogue.endpoint = self._locate()
            self._context = zmq.Context()
            self._tasks = [
                asyncio.create_task(self._stay_connected(self._context)),
                asyncio.create_task(self._watch_patience()),
            ]
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._welcomed.wait()
        except TimeoutError:
            pass
        welcome = self.dialogue.welcome
        if welcome is None:
            # Streams that are open wait for a daemon longer than somebody who only asks now.
            if not self.dialogue.open_exchanges:
                await self.close()
            raise self.dialogue.refusal or DaemonUnreachable(
                f"daemon not running: no answer from {self.dialogue.endpoint} within "
                f"{self._connect_timeout_s:g} s; {HOW_TO_START}",
                endpoint=self.dialogue.endpoint,
            )
        return welcome

    async def close(self) -> None:
        """Ends the connection and every exchange; leaves no task, socket or thread behind."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.dialogue.disconnected(_now())
        self.dialogue.fail_all(DaemonUnreachable("client was closed"))
        context, self._context = self._context, None
        if context is not None:
            # Waits for the linger of the socket: nothing, unless the daemon stopped reading.
            context.term()

    def start(self, exchange: Exchange[Item, Result]) -> Flow[Item, Result]:
        """Begins an exchange; returns its consumer's side."""
        if self._context is None:
            raise DaemonUnreachable("client is not connected; use it as a context manager")
        flow = Flow(self.dialogue, exchange)
        self.dialogue.start(exchange, _now())
        return flow

    def _locate(self) -> str:
        """Looked up for every connection: a restarted daemon may listen elsewhere."""
        return check_address(self._endpoint) if self._endpoint else find_address(self._home)

    async def _stay_connected(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        try:
            while True:
                try:
                    await self._converse(context)
                except DaemonUnreachable:
                    pass  # no endpoint file yet, or nobody listens: patience is counted elsewhere
                except HotseatError as error:
                    self.dialogue.refusal = error
                finally:
                    self._welcomed.clear()
                    self._away.set()
                    self.dialogue.disconnected(_now())
                if self.dialogue.refusal is not None and not self.dialogue.instances:
                    self._welcomed.set()  # refused at the first attempt: waiting changes nothing
                    return
                # Jitter, so that many clients of one daemon do not come back in step.
                await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        except Exception as error:  # task root: a defect must reach the callers
            self.dialogue.fail_all(HotseatError("internal", f"client failed: {error!r}"))
            raise

    async def _converse(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        """One connection, from Hello to its loss."""
        self.dialogue.endpoint = self._locate()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(frames: list[bytes]) -> None:
            if over.done():
                return
            try:
                if not self.dialogue.received(frames):
                    over.set_result(None)
            except Exception as error:  # noqa: BLE001 - a defect must reach the callers
                over.set_exception(error)
            if self.dialogue.welcome is not None and not self._welcomed.is_set():
                self._pause_s = _FIRST_PAUSE_S
                self._away.clear()
                self._welcomed.set()

        with Wire(context, self.dialogue.endpoint, hear) as wire:
            self.dialogue.connected(_now())
            tasks = [
                asyncio.create_task(part) for part in (self._send(wire), wire.lost(), self._beat())
            ]
            try:
                await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            # A last reply may have come together with the end of the connection.
            while wire.look():
                pass
            for ended in (over, *tasks):
                if ended.done() and not ended.cancelled():
                    ended.result()

    async def _send(self, wire: Wire) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            while self.dialogue.outgoing:
                await wire.send(self.dialogue.outgoing.popleft())

    async def _beat(self) -> None:
        while self.dialogue.tick(_now()):  # noqa: ASYNC110 - it is time that passes here
            await asyncio.sleep(self.dialogue.until_ping_s(_now()))

    async def _watch_patience(self) -> None:
        """Ends exchanges that waited too long while there is no connection."""
        while True:
            await self._away.wait()
            await asyncio.sleep(_TICK_S)
            self.dialogue.end_patience(_now())


def _now() -> float:
    return asyncio.get_running_loop().time()
