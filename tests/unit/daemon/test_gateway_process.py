"""The keeper of the gateway outlives what keeps a gateway from being started or told of."""

import asyncio
import contextlib
import os

from hotseat.gateway.presence import Presence
from hotseat.protocol.discovery import GatewayNote
from hotseat.supervisor.daemon.gateway_process import GatewayProcess
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.http_values import HttpSettings
from hotseat.supervisor.settings.values import Settings

PORT = 1
"""Nothing is ever bound to it here."""


class FullDisk:
    """An endpoint file that cannot be written."""

    def __init__(self):
        self.told = asyncio.Event()

    def show_gateway(self, _address):
        self.told.set()
        raise OSError(28, "No space left on device")


@contextlib.asynccontextmanager
async def keeping(home, figures, endpoint, on_event=lambda _: None):
    """A keeper at work, as its task."""
    settings = Settings(http=HttpSettings(enabled=True, port=PORT))
    keeper = GatewayProcess(Home(home), settings, EventLog(on_event), figures, endpoint)
    job = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(20):
            yield job
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_keeper_tries_again_where_no_output_can_be_written(tmp_path):
    ended, figures = asyncio.Semaphore(0), Figures()
    # There is no folder for its output.
    async with keeping(tmp_path, figures, FullDisk(), lambda _: ended.release()) as job:
        for starts in (1, 2):
            again = asyncio.create_task(ended.acquire())
            await asyncio.wait({job, again}, return_when=asyncio.FIRST_COMPLETED)
            assert not job.done()
            assert (figures.gateway.state, figures.gateway.starts) == ("ended", starts)


async def test_keeper_goes_on_where_the_gateway_cannot_be_told_of(tmp_path):
    note = GatewayNote(pid=os.getpid(), address="a", version="1", watched=False, settings="")
    figures, endpoint = Figures(), FullDisk()
    with Presence(tmp_path, PORT, note):
        async with keeping(tmp_path, figures, endpoint) as job:
            await endpoint.told.wait()
            await asyncio.sleep(0)  # one turn of the loop, in which a failed task would end
            assert not job.done() and figures.gateway.state == "running"
