"""Other names for models, and what a change of settings asks for."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sampling
from hotseat.supervisor.settings.aliases import other_names, resolve_name
from hotseat.supervisor.settings.changes import compare_settings
from hotseat.supervisor.settings.values import (
    AliasSettings,
    MemorySettings,
    ModelSettings,
    SamplingDefaults,
    SeatSettings,
    Settings,
)

ALIASES = {
    "claude-haiku-*": AliasSettings(use="seated", otherwise="small"),
    "claude-*": AliasSettings(use="big"),
    "claude-haiku-9": AliasSettings(use="exact"),
    "big": AliasSettings(use="small"),
    "now": AliasSettings(use="seated"),
}
KNOWN = {"big", "small", "exact"}


@pytest.mark.parametrize(
    ("name", "seated", "model"),
    [
        ("big", None, "big"),  # a registered name counts before an alias
        ("claude-haiku-4", "big", "big"),
        ("claude-haiku-4", None, "small"),
        ("claude-haiku-9", None, "exact"),
        ("claude-opus", None, "big"),
        ("seated", "small", "small"),
        ("now", "small", "small"),
        ("unheard", None, "unheard"),
    ],
)
def test_name_stands_for_one_model(name, seated, model):
    assert resolve_name(name, ALIASES, KNOWN, seated) == model


@pytest.mark.parametrize("name", ["seated", "now"])
def test_seated_with_an_empty_seat_is_refused(name):
    with pytest.raises(HotseatError) as caught:
        resolve_name(name, ALIASES, KNOWN, None)
    assert caught.value.code == "not_seated"


def test_globs_tell_capitals_apart():
    assert resolve_name("Claude-opus", ALIASES, KNOWN, None) == "Claude-opus"


def models(**values):
    return Settings(models={"a": ModelSettings(**values)})


def test_own_settings_of_the_seated_model_reseat_it():
    change = compare_settings(Settings(), models(context_tokens=4096), "a")
    assert change.reseats and change.changed == ("models.a.context_tokens",)


def test_settings_of_another_model_leave_the_seat_alone():
    assert not compare_settings(Settings(), models(context_tokens=4096), "b").reseats


def test_settings_that_no_worker_knows_leave_the_seat_alone():
    change = compare_settings(Settings(), models(pin=True, keep_alive_s=5.0, swap="wait"), "a")
    assert not change.reseats and len(change.changed) == 3


def test_global_settings_leave_the_seat_alone():
    new = Settings(memory=MemorySettings(reserve_bytes=1))
    assert not compare_settings(Settings(), new, "a").reseats


def test_setting_that_is_taken_once_asks_for_a_restart():
    change = compare_settings(Settings(), Settings(seat=SeatSettings(standby="off")), None)
    assert change.restart == ("seat.standby",)


def test_same_settings_are_no_change():
    assert compare_settings(models(pin=True), models(pin=True), "a").changed == ()


def test_defaults_fill_what_a_request_leaves_open():
    chosen = SamplingDefaults(temperature=0.7, top_k=20)
    own = Sampling(temperature=1.0, min_p=0.1)
    filled = chosen.fill(Sampling(top_k=0, seed=3), own, 2)
    assert (filled.temperature, filled.top_k, filled.seed) == (0.7, 0, 3)
    assert (filled.min_p, filled.top_p) == (0.1, None)
    assert chosen.fill(Sampling(temperature=0.0), own, 2).temperature == 0.0


def test_zero_of_a_client_of_version_1_asks_for_nothing_and_its_model_has_no_say():
    chosen = SamplingDefaults(temperature=0.7)
    own = Sampling(temperature=1.0, min_p=0.1)
    filled = chosen.fill(Sampling(temperature=0.0, top_k=0), own, 1)
    assert (filled.temperature, filled.top_k, filled.min_p) == (0.7, None, None)
    assert SamplingDefaults().fill(Sampling(), own, 1).temperature is None


@pytest.mark.parametrize(
    ("model", "seated", "names"),
    [
        ("exact", None, ("claude-haiku-9",)),
        ("small", "small", ("now",)),
        ("small", None, ()),  # "big" is registered itself, patterns are no names
        ("big", "big", ("now",)),
    ],
)
def test_names_that_stand_for_a_model_are_those_that_resolve_to_it(model, seated, names):
    assert other_names(model, ALIASES, KNOWN, seated) == names
    assert all(resolve_name(name, ALIASES, KNOWN, seated) == model for name in names)
