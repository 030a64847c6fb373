"""What files of engine tests begin with."""

import pytest
from tests.support.engine.engine_harness import FakeSupervisor


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the models of a file are registered."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def supervisors(tmp_path):
    """Makes a seated engine at each call, with KV of its own."""
    made = []

    def make(record, **load):
        made.append(FakeSupervisor(record, tmp_path / f"kv{len(made)}", **load))
        made[-1].seat()
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.unseat()
