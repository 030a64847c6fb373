"""What of the daemon's environment a worker gets."""

import pytest

from hotseat.supervisor.seat.worker_process import worker_environment

REFRESH = "MLX_METAL_RESIDENCY_REFRESH_INTERVAL_MS"


@pytest.mark.parametrize(
    "name", ["AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "MTL_DEBUG_LAYER", "METAL_DEVICE_WRAPPER_TYPE"]
)
def test_switches_of_the_gpu_reach_the_worker(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("X_" + name, "1")
    found = worker_environment()
    assert found[name] == "1"
    assert "X_" + name not in found


@pytest.mark.parametrize(
    ("platform", "given", "expected"),
    [
        ("darwin", None, "1000"),
        ("darwin", "0", "0"),
        ("linux", None, None),
        ("linux", "250", "250"),
    ],
)
def test_weights_stay_resident_on_a_mac_unless_somebody_says_otherwise(
    monkeypatch, platform, given, expected
):
    monkeypatch.delenv(REFRESH, raising=False)
    if given is not None:
        monkeypatch.setenv(REFRESH, given)
    assert worker_environment(platform).get(REFRESH) == expected
