"""What files of catalogue tests begin with."""

import pytest

from hotseat.supervisor.catalogue.store import Catalogue


@pytest.fixture
async def catalogue(tmp_path):
    opened = await Catalogue.open(tmp_path / "catalogue.sqlite")
    yield opened
    await opened.close()
