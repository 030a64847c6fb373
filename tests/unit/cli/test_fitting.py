"""Plans without a daemon know what the home says and what the disk was measured at."""

import time
from types import SimpleNamespace

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record

from hotseat.cli.home import fitting
from hotseat.cli.home.fitting import planning_here
from hotseat.protocol.discovery import HOME_VARIABLE
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.residence import WeightParts
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import READ_RATE_KEY
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.residence import ReadRate

PARTS = WeightParts(layers=(272 * MIB,) * 64, outside=1600 * MIB)
RECORD = replace(
    model_record(layers=full_layers(48, 4, 128), weights_bytes=PARTS.total, parts=PARTS)
)
MAC = MachineMemory(total_bytes=16 * GIB, available_bytes=14 * GIB)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    probe = SimpleNamespace(machine=lambda: MAC)
    monkeypatch.setattr(fitting, "system_probe", lambda: probe)
    return tmp_path


async def keep_rate(home, bytes_per_s):
    catalogue = await Catalogue.open(home / "catalogue.sqlite")
    rate = ReadRate(bytes_per_s=bytes_per_s, at=time.time())
    await catalogue.meta_set(READ_RATE_KEY, msgspec.json.encode(rate).decode())
    await catalogue.close()


async def test_rate_that_a_daemon_kept_decides_without_one(home):
    plan = planning_here(None)(RECORD)
    assert (plan.fits, plan.residence.mode, plan.tokens_per_s) == (True, "layers", None)
    await keep_rate(home, 5e9)
    plan = planning_here(None)(RECORD)
    assert plan.tokens_per_s == pytest.approx(5e9 / plan.step_bytes)
    await keep_rate(home, 5e7)
    assert "0.2 a second are the least" in planning_here(None)(RECORD).reason


def test_home_that_streams_nothing_refuses_without_a_daemon_too(home):
    (home / "config.toml").write_text('[memory]\nstreaming = "off"\n')
    plan = planning_here(None)(RECORD)
    assert (plan.fits, plan.residence) == (False, None)
