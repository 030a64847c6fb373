"""Settings: defaults, units, and mistakes that say where they are."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.settings.reader import load_settings, parse_size
from hotseat.supervisor.settings.values import KvSettings, MemorySettings, Settings


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "config.toml"

    def write_and_load(text, environ=None):
        path.write_text(text)
        return load_settings(path, environ or {})

    return write_and_load


@pytest.fixture
def fault(load, tmp_path):
    def of(text):
        with pytest.raises(HotseatError) as caught:
            load(text)
        assert caught.value.code == "invalid_config"
        assert str(tmp_path / "config.toml") in caught.value.message
        return caught.value

    return of


def test_missing_file_means_defaults(tmp_path):
    assert load_settings(tmp_path / "none.toml", {}) == Settings()


def test_empty_file_means_defaults(load):
    assert load("") == Settings()


def test_every_kind_of_value_is_read(load, tmp_path):
    settings = load(
        """
        [memory]
        reserve_bytes = "2 GiB"
        limit_bytes = 12345
        [kv]
        disk_budget_bytes = "1.5GiB"
        idle_checkpoint_s = 5
        [limits]
        max_waiting = 3
        reply_keep_s = 0.5
        [deadlines]
        load_s = 7
        [seat]
        lock_path = "seat.lock"
        [models."qwen 3"]
        context_tokens = 4096
        prefill_chunk = 512
        persist = false
        path = "~/models/q"
        """
    )
    assert settings.memory == MemorySettings(reserve_bytes=2 * GIB, limit_bytes=12345)
    assert settings.kv.disk_budget_bytes == 1536 * MIB
    assert settings.kv.idle_checkpoint_s == 5.0
    assert (settings.limits.max_waiting, settings.limits.reply_keep_s) == (3, 0.5)
    assert (settings.deadlines.load_s, settings.deadlines.warm_s) == (7.0, 120.0)
    assert settings.seat.lock_path == str(tmp_path / "seat.lock")
    model = settings.model("qwen 3")
    assert (model.context_tokens, model.prefill_chunk, model.persist) == (4096, 512, False)
    assert not model.path.startswith("~")
    assert settings.model("other").persist


def test_environment_wins_over_the_file(load):
    settings = load('[seat]\nlock_path = "/a"\n', {"HOTSEAT_SEAT_LOCK": "/b"})
    assert settings.seat.lock_path == "/b"


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("[memory]\n\nreserve_byte = 1\n", 3, "memory.reserve_byte"),
        ("[memry]\nx = 1\n", 1, "memry"),
        ("# c\n[kv]\nidle_checkpoint_s = -1\n", 3, "kv.idle_checkpoint_s"),
        ("kv.idle_checkpoint_s = true\n", 1, "kv.idle_checkpoint_s"),
        ("[kv]\nidle_checkpoint_s = inf\n", 2, "kv.idle_checkpoint_s"),
        ('[memory]\nreserve_bytes = "8 GB"\n', 2, "memory.reserve_bytes"),
        ("[memory]\nreserve_bytes = -1\n", 2, "memory.reserve_bytes"),
        ("[limits]\nmax_waiting = 0\n", 2, "limits.max_waiting"),
        ('[limits]\nmax_waiting = "9"\n', 2, "limits.max_waiting"),
        ("\n[models.a]\n\n[models.b]\npersist = 1\n", 5, "models.b.persist"),
        ("[models.a]\nprefill_chunk = 100\n", 2, "models.a.prefill_chunk"),
        ("[models.a]\npath = 3\n", 2, "models.a.path"),
        ('[models."../x"]\npersist = true\n', 1, "models.../x"),
        ("\nmodels = 3\n", 2, "models"),
        ("\n\nmemory = { reserve_bytes = true }\n", 3, "memory.reserve_bytes"),
        ('[memory]\nreserve_bytes = "99999999999 TiB"\n', 2, "memory.reserve_bytes"),
        ("[limits]\nmax_waiting = 9223372036854775808\n", 2, "limits.max_waiting"),
        ("[kv]\nidle_checkpoint_s = nan\n", 2, "kv.idle_checkpoint_s"),
        ('[models.a]\npath = ""\n', 2, "models.a.path"),
        ('[models.a]\npath = "a\\u0000"\n', 2, "models.a.path"),
        ('[models.a]\npath = "~nobody-of-that-name/x"\n', 2, "models.a.path"),
        ("[models.a]\ntemplate_args = { x = nan }\n", 2, "models.a.template_args.x"),
        ('[seat]\nat_start = "../x"\n', 2, "seat.at_start"),
    ],
)
def test_mistake_names_line_field_value_and_remedy(fault, text, line, field):
    error = fault(text)
    assert (error.facts["line"], error.facts["field"]) == (line, field)
    assert f":{line}: {field} = " in error.message
    assert error.facts["remedy"] in error.message
    assert error.facts["value"] in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kv.idle_checkpoint_s = 0", "0 is not > 0.0; write seconds above 0, no quotes"),
        ("kv.idle_checkpoint_s = true", "True is no number; write seconds above 0, no quotes"),
        ("limits.max_waiting = 1.5", "1.5 is no whole number; write a whole number above 0"),
        ("limits.max_waiting = 0", "0 is not >= 1; write a whole number above 0, no quotes"),
        ("memory.limit_bytes = '8 GB'", 'is no size; write bytes, or "8GiB"'),
        ("models.a.prefill_chunk = 100", "blocks; write a divisor or a multiple of 256"),
        ("models.a.sampling.top_p = 2", "2 is not <= 1.0; write a number from 0 to 1, no quotes"),
        ("models.a.sampling.frequency_penalty = -3", "-3 is not >= -2.0; write a number from -2"),
        ("models.a.sampling.temperature = nan", "nan is not >= 0.0; write a number from 0 to 10"),
        ("seat.standby = 'no'", "is no choice; write one of ['on', 'off']"),
        ("seat.at_start = 3", "is no model name; see `hotseat models`"),
        ("memory = 3", "is no table; write [memory]"),
        ("models = 3", "is no table; write [models.NAME]"),
    ],
)
def test_mistake_says_the_limit_and_the_way_out(fault, text, words):
    assert words in fault(text).message


def test_long_value_is_shown_by_its_beginning(fault):
    assert "= 'xxxx" in fault(f"seat.at_start = '/{'x' * 200}'").message.replace("'/", "'")


def test_unknown_key_offers_near_ones(fault):
    assert fault("[memory]\nreserve_byte = 1\n").facts["near"] == ["reserve_bytes"]
    assert "did you mean memory?" in fault("[memry]\n").message
    assert "known here" in fault("[seat]\nzzz = 1\n").message


def test_broken_toml_names_its_line(fault):
    assert fault("[memory]\nreserve_bytes = \n").facts["line"] == 2


def test_file_that_is_no_text_is_a_typed_error(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HotseatError, match="cannot be read"):
        load_settings(path, {})


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (5, 5),
        ("8GiB", 8 * GIB),
        (" 512 MiB ", 512 * MIB),
        ("10 B", 10),
        (True, None),
        (-1, None),
        (1.5, None),
        ("8", None),
        ("GiB", None),
        ("-1GiB", None),
    ],
)
def test_sizes_are_bytes_or_say_their_unit(value, size):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    ("total", "reserve"),
    [(2 * GIB, GIB), (24 * GIB, int(24 * GIB * 0.18)), (128 * GIB, 6 * GIB)],
)
def test_reserve_follows_the_machine(total, reserve):
    machine = MachineMemory(total_bytes=total, available_bytes=total)
    assert MemorySettings().reserve_for(machine) == reserve
    assert MemorySettings(reserve_bytes=5).reserve_for(machine) == 5


def test_disk_defaults_follow_the_disk():
    assert KvSettings().disk_budget_for(100 * GIB) == 20 * GIB
    assert KvSettings().disk_budget_for(1000 * GIB) == 50 * GIB
    assert KvSettings().free_floor_for(1000 * GIB) == 10 * GIB
    assert KvSettings().free_floor_for(10 * GIB) == GIB // 2
    assert KvSettings(free_floor_bytes=7, disk_budget_bytes=8).free_floor_for(GIB) == 7


def test_aliases_are_tables_or_plain_names(load):
    settings = load('[aliases]\na = "m"\n"b-*" = { use = "seated", otherwise = "m" }\n')
    assert settings.aliases["a"].use == "m"
    assert settings.aliases["b-*"].otherwise == "m"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[aliases]\na = { otherwise = "m" }', 2, "says no model"),
        ('[aliases]\na = "b"\nb = "m"', 2, "is an alias itself"),
        ("[aliases]\na = 3", 2, "says no model"),
        ('[aliases]\na = "../x"', 2, "is no model name"),
        ("[models.m.sampling]\ntop_p = 1.5", 2, "from 0 to 1"),
        ("[models.m]\nsampling = 3", 2, "is no table"),
        ("[models.m.template_args]\nx = [1]", 2, "no plain value"),
        ("[models.m]\nswap = 'maybe'", 2, "auto"),
        ("[power]\non_battery = 1", 2, "neither true nor false"),
    ],
)
def test_mistake_in_a_new_section_says_where_it_is(fault, text, line, words):
    error = fault(text)
    assert error.facts["line"] == line and words in error.message


def test_defaults_of_a_model_are_read(load):
    model = load(
        "[models.m]\nkeep_alive_s = 60\npin = true\nswap = 'wait'\n"
        "sampling = { temperature = 0.5, presence_penalty = -1 }\n"
        "template_args = { think = true }\n"
    ).model("m")
    assert (model.keep_alive_s, model.pin, model.swap) == (60.0, True, "wait")
    assert (model.sampling.temperature, model.sampling.presence_penalty) == (0.5, -1.0)
    assert model.template_args == {"think": True}
