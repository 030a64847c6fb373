"""Other programs unload their models before a swap that asks for it, where that gives room."""

from types import SimpleNamespace

import pytest
from tests.unit.models.test_beside_others import SMALL, Desk

from hotseat.protocol.limits import GIB
from hotseat.protocol.messages import Swap
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.seat.seat import Seat


@pytest.mark.parametrize(("used", "is_asked"), [(0, False), (2 * GIB, True), (7 * GIB, True)])
async def test_others_unload_where_the_model_would_be_read_in_part_beside_them_or_refused(
    used, is_asked
):
    desk, asked = Desk(used=used), []

    async def unload_others():
        asked.append(True)
        desk.used = 0
        return True

    admission = Admission(
        desk.planner,
        Seat(),
        None,
        SimpleNamespace(refuse_new=lambda: None),
        None,
        SimpleNamespace(unload_others=unload_others),
    )
    assert await admission.swap(Swap(model=SMALL.name, unload_others=True)) is SMALL
    assert bool(asked) == is_asked
    admission.begin(SMALL.name, force=False)
    assert desk.residence is None
