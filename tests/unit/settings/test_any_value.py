"""Whatever a file says about a setting: settings come of it, or a mistake with line and field."""

import datetime as dt
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs, to_builtins

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.http_values import AgentSettings
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import AliasSettings, ModelSettings, Settings

TABLES = {
    ("models",): ModelSettings,
    ("aliases",): AliasSettings,
    ("http", "agents"): AgentSettings,
}
ARGUMENT = ("models", "m", "template_args", "x")


def places(kind=Settings, where=()):
    """Every section and field, with a name of its own where a file chooses the name."""
    for field in structs.fields(kind):
        place = (*where, field.name)
        yield place
        if place in TABLES:
            yield (*place, "m")
            yield from places(TABLES[place], (*place, "m"))
        elif isinstance(field.default, Struct):
            yield from places(field.type, place)


PLACES = [*places(), ARGUMENT, ("models", "../m"), ("unknown",)]


def quoted(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml(value):
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{quoted(name)} = {toml(v)}' for name, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
WORDS = ["", "on", "seated", "suspend", "8GiB", "8 GB", "9" * 20 + "TiB", "nan", "a\0b"]
FILES = ["/proc/1/fd/x", "~nobody-of-that-name/x", "x" * 300]
NUMBERS = [0, -1, 100, 256, 512, 0.5, 2.5, -1.5, 2**53, 10**400]
NEAR_MISSES = st.sampled_from([*WORDS, *FILES, *NUMBERS])
PLAIN = (
    st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | NEAR_MISSES
    | st.dates(min_value=dt.date(1000, 1, 1))
    | st.times()
)
NAMES = st.sampled_from(sorted({part for place in PLACES for part in place})) | TEXT
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
).map(toml)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("settings") / "config.toml"


def outcome(file, text):
    file.write_text(text, "utf-8")
    try:
        return load_settings(file, {})
    except HotseatError as error:
        return error


@settings(max_examples=600, deadline=None)
@given(lines_before=st.integers(0, 3), place=st.sampled_from(PLACES), value=VALUES)
@example(lines_before=0, place=ARGUMENT, value="0x" + "f" * 4000)
@example(lines_before=1, place=ARGUMENT, value="9" * 5000)
@example(lines_before=2, place=ARGUMENT, value="[" * 5000)
def test_any_value_gives_settings_or_a_mistake_with_its_place(file, lines_before, place, value):
    text = "# before\n" * lines_before + f"{'.'.join(map(quoted, place))} = {value}"
    found = outcome(file, text)
    if isinstance(found, Settings):
        json.dumps(to_builtins(found), allow_nan=False)
        return
    assert (found.code, found.facts["line"]) == ("invalid_config", lines_before + 1)
    if "not valid TOML" not in found.message:
        assert found.facts["field"].split(".")[0] == place[0]
        assert found.facts["remedy"] and found.facts["value"]


def test_places_are_all_there():
    assert ("models", "m", "sampling", "top_p") in PLACES and ("aliases", "m", "use") in PLACES
    assert ("http", "agents", "m", "swap") in PLACES
    assert ("kv", "disk_budget_bytes") in PLACES
