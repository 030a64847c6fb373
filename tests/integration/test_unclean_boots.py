"""A machine that went down twice with the same model seated does not load it by itself again."""

import asyncio

import msgspec
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, serves, stub_daemon

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.guards.rules.boots import BootSeat


def machine_goes_down(daemon, number):
    """Everything is gone at once, and what is on the disk is from another boot."""
    for worker in daemon.workers():
        worker.kill()
    daemon.kill()

    async def date_back():
        catalogue = await Catalogue.open(daemon.home / "catalogue.sqlite")
        seated = msgspec.json.decode(await catalogue.meta_get("boots:seated"), type=BootSeat)
        assert seated.model == "a"
        seated = BootSeat(model=seated.model, boot=f"boot-{number}")
        await catalogue.meta_set("boots:seated", msgspec.json.encode(seated).decode())
        await catalogue.close()

    asyncio.run(date_back())


def is_noted(daemon):
    async def read():
        catalogue = await Catalogue.open(daemon.home / "catalogue.sqlite")
        try:
            return '"a"' in (await catalogue.meta_get("boots:seated") or "")
        finally:
            await catalogue.close()

    return asyncio.run(read())


def test_model_seated_at_two_unclean_boots_waits_for_a_person():
    with stub_daemon() as daemon:
        for number in range(2):
            with daemon.client() as client:
                assert serves(client, "a")
            wait_for(lambda: is_noted(daemon), what="the mark on disk")
            machine_goes_down(daemon, number)
            daemon.start()
        with daemon.client() as client:
            error = error_of(client.generate("a", prompt="x").result)
            assert error.code == "model_quarantined"
            assert "hotseat swap a" in error.message
            (barred,) = client.status().quarantined
            assert (barred.model, barred.retry_in_s) == ("a", None)
            assert "went down" in barred.reason
            assert serves(client, "b"), "others are not concerned"
            assert client.swap("a").to == "a"
            assert serves(client, "a")


def test_daemon_that_was_killed_bars_nothing():
    with stub_daemon() as daemon:
        for _ in range(3):
            with daemon.client() as client:
                assert serves(client, "a")
            daemon.kill()
            daemon.start()
        with daemon.client() as client:
            assert serves(client, "a")
            assert client.status().quarantined == ()
