"""Plans of real models from their headers alone, on this machine and on a 24 GiB Mac."""

import json

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from tests.support.models.real_shapes import CONFIGS, write_headers

from hotseat.cli.group import cli
from hotseat.library.inspecting import inspect_folder
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.models.rules.plan import plan_elsewhere
from hotseat.supervisor.models.rules.working_set import metal_working_set

PARAMETERS = {
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-8b": 8_190_735_360,
    "qwen2.5-14b": 14_770_033_664,
    "gemma-3-12b": 11_766_034_176,
    "lfm2-1.2b": 1_170_340_608,
}
"""As published; Gemma's without its vision tower."""
KV_PER_TOKEN = {
    "llama-3.1-8b": 131_072,
    "qwen3-8b": 147_456,
    "qwen2.5-14b": 196_608,
    "gemma-3-12b": 65_536,
    "lfm2-1.2b": 12_288,
}
LIMIT_24 = 24 * GIB * 74 // 100 - GIB
"""What Metal's default leaves of 24 GiB, with its margin."""
BITS = 4.5
"""Four, and scale and bias of 16 bits each for 64 weights."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("shapes")
    made = {name: write_headers(base / name, name) for name in CONFIGS}
    made["llama-bf16"] = write_headers(base / "llama-bf16", "llama-3.1-8b", quantised=False)
    made["qwen-bf16"] = write_headers(base / "qwen-bf16", "qwen2.5-14b", quantised=False)
    return made


@pytest.fixture(scope="module")
def records(folders):
    return {name: inspect_folder(folder).record for name, folder in folders.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_the_published_number(records, name):
    assert records[name].parameters == pytest.approx(PARAMETERS[name], rel=0.001)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_of_four_bits_take_what_is_known(records, name):
    assert records[name].weights_bytes == pytest.approx(PARAMETERS[name] * BITS / 8, rel=0.005)


def test_weights_of_half_precision_are_exact(records):
    assert records["llama-bf16"].weights_bytes == 2 * PARAMETERS["llama-3.1-8b"]


@pytest.mark.parametrize("name", CONFIGS)
def test_kv_per_token_is_the_known_figure(records, name):
    assert records[name].kv_bytes_per_token == KV_PER_TOKEN[name]


def test_windows_of_gemma_take_320_mib(records):
    assert records["gemma-3-12b"].window_bytes == 320 * MIB


def test_hybrid_has_a_state_that_does_not_grow(records):
    record = records["lfm2-1.2b"]
    assert sum(layer.kind == "state" for layer in record.layers) == 10
    assert record.kv_bytes(2048) - record.kv_bytes(1024) == 1024 * 12_288


@pytest.mark.parametrize("name", CONFIGS)
def test_four_bit_models_fit_a_24_gib_mac(records, name):
    view = plan_elsewhere(records[name], 24 * GIB)
    assert view.fits, view.reason
    assert (view.limit_bytes, view.binding) == (LIMIT_24, "working_set")
    contexts = [fit.context_tokens for fit in view.sessions]
    assert contexts == [4096, 8192, 16_384, 32_768]
    assert all(fit.sessions > 0 for fit in view.sessions[:3])


def test_half_precision_14b_is_read_as_it_is_needed(records):
    view = plan_elsewhere(records["qwen-bf16"], 24 * GIB)
    assert view.fits
    assert view.residence.mode == "layers"
    assert view.weights_bytes < view.limit_bytes < records["qwen-bf16"].weights_bytes
    assert view.max_context_tokens >= 7680


def test_half_precision_14b_that_cannot_be_read_so_is_refused_with_numbers_and_remedy(records):
    adapted = replace(records["qwen-bf16"], adapter="/adapter")
    view = plan_elsewhere(adapted, 24 * GIB)
    assert not view.fits
    assert "27.5" in view.reason and "16.76 GiB (working_set)" in view.reason
    assert "iogpu.wired_limit_mb=" in view.remedy


def test_raised_wired_limit_gives_the_room_to_kv(records):
    default = plan_elsewhere(records["qwen2.5-14b"], 24 * GIB)
    raised = plan_elsewhere(records["qwen2.5-14b"], 24 * GIB, 20 * GIB)
    assert raised.kv_budget_bytes - default.kv_budget_bytes == raised.limit_bytes - LIMIT_24
    assert raised.limit_bytes > default.limit_bytes


@pytest.mark.parametrize(
    ("ram", "said"), [(16, 11.84), (24, 17.76), (36, 27.0), (128, 107.5), (192, 161.0)]
)
def test_metals_default_is_about_what_macs_say(ram, said):
    """`recommendedMaxWorkingSetSize` as logs of macOS 15 and 26 show it."""
    assert 0.98 * said <= metal_working_set(ram * GIB) / GIB <= 1.01 * said


@pytest.mark.parametrize(("ram", "share"), [(8, 74), (64, 74), (95, 74), (96, 84), (512, 84)])
def test_share_between_the_known_macs_is_the_smaller_one(ram, share):
    assert metal_working_set(ram * GIB) == ram * GIB * share // 100


def test_command_plans_a_folder_without_a_daemon(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path / "nobody"))
    arguments = ["plan", str(folders["gemma-3-12b"]), "--ram", "24GiB"]
    result = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False)
    assert result.exit_code == 0, result.output
    view = json.loads(result.stdout)
    assert (view["kv_bytes_per_token"], view["what_if"]) == (65_536, True)
    told = CliRunner().invoke(cli, arguments, standalone_mode=False).stdout
    for part in ("16.8 GiB, set by working_set", "KV budget", "32,768"):
        assert part in told


def test_command_refuses_what_is_no_size(folders):
    arguments = ["plan", str(folders["qwen3-8b"]), "--ram", "lots"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "24GiB" in result.stderr
