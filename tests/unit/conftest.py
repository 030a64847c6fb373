"""What several files of engine tests begin with."""

import pytest


@pytest.fixture
def supervisor(record, tmp_path):
    """A seated engine in this process; the file that asks for it says with which `record`."""
    from tests.support.engine.engine_harness import FakeSupervisor  # most files here need no mlx

    made = FakeSupervisor(record, tmp_path / "kv")
    made.seat()
    yield made
    made.unseat()
