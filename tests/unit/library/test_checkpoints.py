"""Checkpoints as they are: more on disk than is loaded, packed in every way, cut in parts."""

import json

import mlx.core as mx
import pytest
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens
from tests.support.models import checkpoints
from tests.support.models.checkpoints import quantise
from tests.support.models.kinds.table import ARCHITECTURES
from tests.support.models.reshaped import edit_json, nest
from tests.support.models.tiny_models import make_tiny

from hotseat.library.discovery.looking import Spot, look_at_folder
from hotseat.library.importing import import_model
from hotseat.library.inspecting import inspect_folder
from hotseat.protocol.errors import HotseatError
from hotseat.worker.model.building import build_model
from hotseat.worker.text.tokenizer import open_tokenizer

TOKENS = mx.array([[5, 9, 300]])
PLAIN_PARAMETERS = 176576
"""Of the tiny llama."""


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def registered(folder, name="m"):
    return import_model(folder, folder.parent / "home", name, quiet)


def refusal(folder) -> str:
    with pytest.raises(HotseatError) as caught:
        registered(folder)
    assert caught.value.code == "model_unavailable"
    assert not list((folder.parent / "home" / "models").glob("[!.]*"))
    return caught.value.message


def found(folder):
    return look_at_folder(Spot(name="m", place="folder", source=folder), folder)


def answer(record, tmp_path) -> list[int]:
    """What it says, by the engine that the worker runs."""
    supervisor = FakeSupervisor(record, tmp_path / "kv")
    supervisor.seat()
    try:
        return supervisor.turn(prompt_tokens(20), max_tokens=6).tokens
    finally:
        supervisor.unseat()


def logits(folder):
    made = build_model(folder)[0](TOKENS)
    mx.eval(made)
    return made


SEEING = [
    ("llama", "mistral3", "vision_tower"),
    ("llama", "pixtral", "vision_encoder"),
    ("gemma3", "gemma3", "vision_tower"),
    ("gemma3", "gemma3", "multi_modal_projector"),
    ("qwen3", "qwen3_vl", "vision_tower"),
    ("qwen3", "qwen3_vl", "visual"),
]


@pytest.mark.parametrize(("text", "kind", "tower"), SEEING)
def test_model_that_sees_is_counted_and_answers_by_its_part_for_text(text, kind, tower, tmp_path):
    plain = registered(make_tiny(tmp_path / "plain", text), "plain")
    folder = checkpoints.put_beside(nest(make_tiny(tmp_path / "m", text), kind), tower)
    record = registered(folder)
    assert record.weights_bytes == plain.weights_bytes
    assert record.left_on_disk == ("images",)
    assert sum(file.size_bytes for file in record.files) > record.weights_bytes + 3 * 64 * 64 * 4
    assert inspect_folder(folder).record.weights_bytes == record.weights_bytes
    assert answer(record, tmp_path) == answer(plain, tmp_path)


@pytest.mark.parametrize(
    ("kind", "tower", "part"),
    [
        ("gemma4", "audio_tower", "sound"),
        ("gemma4", "embed_vision", "images"),
        ("gemma3n", "audio_tower", "sound"),
        ("qwen3_5", "model.visual", "images"),
        ("qwen3_5_moe", "vision_tower", "images"),
        ("qwen3_5", "mtp", "drafting"),
        ("qwen3_vl_moe", "model.visual", "images"),
    ],
)
def test_towers_of_newer_kinds_stay_on_disk(kind, tower, part, tmp_path):
    architecture = next(one for one in ARCHITECTURES if one.kind == kind)
    plain = registered(architecture.make(tmp_path / "plain"), "plain")
    record = registered(checkpoints.put_beside(architecture.make(tmp_path / "m"), tower))
    assert (record.weights_bytes, record.left_on_disk) == (plain.weights_bytes, (part,))


@pytest.mark.parametrize(("text", "kind", "tower"), SEEING)
def test_list_counts_what_would_be_loaded(text, kind, tower, tmp_path):
    folder = checkpoints.put_beside(nest(make_tiny(tmp_path / "m", text), kind), tower)
    estimate = found(folder).record
    assert estimate.left_on_disk == ("images",)
    record, header = registered(folder), 16 * 1024
    assert 0 <= estimate.weights_bytes - record.weights_bytes < header
    assert estimate.parameters == record.parameters


@pytest.mark.parametrize(
    ("text", "kind", "tower"),
    [
        ("qwen3", "qwen3_vl", "visual"),
        ("gemma3", "gemma3", "vision_tower"),
        ("llama", "pixtral", "vision_tower"),
        ("llama", "mistral3", "vision_tower"),
    ],
)
def test_checkpoint_as_transformers_names_it_gives_the_same_logits(text, kind, tower, tmp_path):
    folder = nest(make_tiny(tmp_path / "m", text), kind)
    said = logits(folder)
    assert mx.array_equal(logits(checkpoints.as_published(folder, tower)), said)
    assert registered(folder).left_on_disk == ("images",)


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("llama", "mtp"),
        ("qwen3", "model.mtp_layers.0"),
        ("deepseek_v2", "model.layers.5"),
        ("deepseek_v32", "model.layers.5"),
    ],
)
def test_layers_that_draft_stay_on_disk(kind, module, tmp_path):
    plain = registered(make_tiny(tmp_path / "plain", kind), "plain")
    record = registered(checkpoints.put_beside(make_tiny(tmp_path / "m", kind), module))
    assert (record.weights_bytes, record.left_on_disk) == (plain.weights_bytes, ("drafting",))


def test_tensor_that_belongs_to_nothing_is_still_refused(tmp_path):
    folder = checkpoints.put_beside(make_tiny(tmp_path / "m", "llama"), "model.adapterish")
    assert "model.adapterish.blocks.0.proj.weight" in refusal(folder)


G32 = {"group_size": 32}
EXPERTS = tuple(f".experts.{part}_proj" for part in ("gate", "up", "down"))


@pytest.mark.parametrize(
    ("usual", "layers", "label"),
    [
        (G32 | {"bits": 2}, {}, "2-bit g32"),
        (G32 | {"bits": 3}, {}, "3-bit g32"),
        ({"group_size": 64, "bits": 4}, {}, "4-bit g64"),
        (G32 | {"bits": 5}, {}, "5-bit g32"),
        (G32 | {"bits": 6}, {}, "6-bit g32"),
        (G32 | {"bits": 8}, {}, "8-bit g32"),
        (G32 | {"bits": 4, "mode": "mxfp4"}, {}, "4-bit g32 mxfp4"),
        (G32 | {"bits": 8, "mode": "mxfp8"}, {}, "8-bit g32 mxfp8"),
        ({"group_size": 16, "bits": 4, "mode": "nvfp4"}, {}, "4-bit g16 nvfp4"),
        (
            G32 | {"bits": 4},
            {
                "lm_head": G32 | {"bits": 6},
                "model.embed_tokens": G32 | {"bits": 8},
                "model.layers.0.mlp.down_proj": False,
            },
            "mixed 4/6/8-bit g32",
        ),
        (
            G32 | {"bits": 4, "mode": "mxfp4"},
            {"lm_head": {"group_size": 64, "bits": 8, "mode": "affine"}},
            "mixed 4/8-bit g32/64 mxfp4",
        ),
    ],
)
def test_every_packing_of_mlx_is_told_and_answers(usual, layers, label, tmp_path):
    folder = quantise(make_tiny(tmp_path / "m", "llama"), layers, **usual)
    record = registered(folder)
    assert (record.quantisation, record.parameters) == (label, PLAIN_PARAMETERS)
    held = sum(value.nbytes for value in checkpoints.read_weights(folder).values())
    assert record.weights_bytes == held
    assert len(answer(record, tmp_path)) == 6


def test_packing_of_single_layers_inside_a_nested_model_is_followed(tmp_path):
    folder = nest(make_tiny(tmp_path / "m", "llama"), "mistral3")
    layers = {"language_model.lm_head": G32 | {"bits": 8}}
    quantise(folder, layers, group_size=32, bits=4)
    assert registered(folder).quantisation == "mixed 4/8-bit g32"


def test_gpt_oss_as_its_makers_publish_it_is_used_as_it_is(tmp_path):
    packed = make_tiny(tmp_path / "packed", "gpt_oss")
    names = [name.removesuffix(".weight") for name in checkpoints.read_weights(packed)]
    plain = {name: False for name in names if not name.endswith(EXPERTS)}
    quantise(packed, plain, group_size=32, bits=4, mode="mxfp4")
    folder = checkpoints.as_openai(make_tiny(tmp_path / "m", "gpt_oss"))
    record = registered(folder)
    assert record.quantisation == "4-bit g32 mxfp4"
    assert mx.array_equal(logits(folder), logits(packed))
    assert len(answer(record, tmp_path)) == 6


def test_awq_is_unpacked_into_what_mlx_reads(tmp_path):
    folder = checkpoints.pack_awq(make_tiny(tmp_path / "m", "llama"))
    record = registered(folder)
    assert (record.quantisation, record.unfit_reason) == ("4-bit g32", "")
    apart = mx.abs(logits(folder) - logits(make_tiny(tmp_path / "plain", "llama"))).mean()
    assert float(apart) < 0.5 * float(mx.abs(logits(tmp_path / "plain")).mean())
    assert len(answer(record, tmp_path)) == 6


def test_gptq_which_packs_along_the_other_axis_is_refused(tmp_path):
    folder = checkpoints.pack_awq(make_tiny(tmp_path / "m", "llama"), "gptq")
    weights = checkpoints.read_weights(folder)
    turned = {
        name: value.reshape(value.shape[0] // 8, -1) if name.endswith(".qweight") else value
        for name, value in weights.items()
    }
    checkpoints.write_weights(folder, turned)
    assert "mlx-lm cannot build it" in refusal(folder)


def test_gptq_with_indices_of_groups_is_refused_with_the_way_out(tmp_path):
    folder = checkpoints.pack_awq(make_tiny(tmp_path / "m", "llama"), "gptq")
    name = "model.layers.0.mlp.down_proj.g_idx"
    checkpoints.write_weights(folder, checkpoints.read_weights(folder) | {name: mx.arange(128)})
    said = refusal(folder)
    assert "g_idx" in said
    assert "mlx_lm.convert" in said


BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("kind", "table", "said"),
    [
        ("deepseek_v3", BLOCKS, "convert it: mlx_lm.convert --hf-path "),
        ("llama", BLOCKS, "fetch its bfloat16 version"),
        ("llama", {"quant_method": "fbgemm_fp8"}, "fetch its bfloat16 version"),
        (
            "llama",
            {"quant_method": "compressed-tensors", "format": "float-quantized"},
            "fetch its bfloat16 version",
        ),
        ("llama", {"quant_method": "modelopt", "quant_algo": "FP8"}, "fetch its bfloat16 version"),
    ],
)
def test_weights_in_8_bit_floats_are_refused_with_the_command_that_converts(
    kind, table, said, tmp_path
):
    folder = checkpoints.mark_fp8(make_tiny(tmp_path / "m", "llama"), kind, **table)
    assert said in refusal(folder)
    listed = found(folder)
    assert listed.fault == "unsupported"
    assert said in listed.reason


def test_8_bit_floats_that_nothing_speaks_of_are_seen_by_their_type(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    file = folder / checkpoints.WHOLE
    head = file.read_bytes().replace(
        b'"dtype":"F32","shape":[64]', b'"dtype":"F8_E4M3","shape":[256]'
    )
    # The header grew: its own length stands before it.
    grown = len(head) - file.stat().st_size
    length = int.from_bytes(head[:8], "little") + grown
    file.write_bytes(length.to_bytes(8, "little") + head[8:])
    assert "fp8" in refusal(folder)


@pytest.mark.parametrize("parts", [2, 5])
@pytest.mark.parametrize("has_index", [True, False])
def test_weights_in_parts_give_the_same_logits_with_and_without_an_index(
    parts, has_index, tmp_path
):
    folder = make_tiny(tmp_path / "m", "llama")
    said = logits(folder)
    checkpoints.split(folder, parts)
    if not has_index:
        (folder / "model.safetensors.index.json").unlink()
    assert mx.array_equal(logits(folder), said)
    assert registered(folder).parameters == PLAIN_PARAMETERS


def test_index_that_names_the_wrong_parts_is_no_hindrance(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    first, second = checkpoints.split(folder, 2)
    index = folder / "model.safetensors.index.json"
    text = index.read_text().replace(first, "@").replace(second, first).replace("@", second)
    index.write_text(text)
    assert registered(folder).parameters == PLAIN_PARAMETERS


def test_part_that_is_missing_without_an_index_is_told_by_its_tensors(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    names = checkpoints.split(folder, 3)
    (folder / "model.safetensors.index.json").unlink()
    (folder / names[1]).unlink()
    assert "Missing" in refusal(folder)


def test_file_left_over_from_the_same_version_is_no_hindrance(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    checkpoints.write_weights(folder, checkpoints.read_weights(folder), "model-old.safetensors")
    record = registered(folder)
    assert record.parameters == PLAIN_PARAMETERS
    assert record.weights_bytes == 4 * PLAIN_PARAMETERS


@pytest.mark.parametrize("changed", ["value", "type", "shape"])
def test_file_left_over_from_another_version_is_refused(changed, tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    name = "model.layers.1.mlp.up_proj.weight"
    old = checkpoints.read_weights(folder)[name]
    left = {
        "value": old + mx.eye(*old.shape),
        "type": old.astype(mx.float16),
        "shape": old.reshape(1, *old.shape),
    }[changed]
    checkpoints.write_weights(folder, {name: left}, "model-00009-of-00009.safetensors")
    said = refusal(folder)
    assert f"model-00009-of-00009.safetensors and model.safetensors tell tensor {name}" in said
    assert "remove the file" in said


@pytest.mark.parametrize("tokenizer_class", ["LlamaTokenizer", "GemmaTokenizer", None])
def test_tokenizer_without_a_fast_file_is_converted(tokenizer_class, tmp_path):
    folder = checkpoints.with_sentencepiece(make_tiny(tmp_path / "m", "llama"), tokenizer_class)
    record = registered(folder)
    assert record.template.mode == ("raw" if tokenizer_class is None else record.template.mode)
    tokenizer = open_tokenizer(folder, record.eos_token_ids)
    text = "The seat holds one model."
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)).strip() == text


def test_tokenizer_of_a_vocabulary_and_merges_is_converted(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    before = open_tokenizer(folder, ())
    text = "The quick brown fox<|im_end|>\nnext"
    ids = before.encode(text, add_special_tokens=False)
    checkpoints.with_merges(folder, "Qwen2Tokenizer")
    registered(folder)
    assert open_tokenizer(folder, ()).encode(text, add_special_tokens=False) == ids


@pytest.mark.parametrize("name", ["tokenizer.model", "tiktoken.model"])
def test_tokenizer_that_cannot_be_converted_is_refused_with_the_way_out(name, tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(b"no tokenizer")
    assert "fetch a version with tokenizer.json" in refusal(folder)


def test_vocabulary_of_a_library_of_its_own_is_named_with_the_way_out(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    (folder / "tokenizer.json").rename(folder / "tekken.json")
    said = refusal(folder)
    assert "only tekken.json, which transformers does not read" in said
    assert "fetch an MLX conversion" in said


def test_tokenizer_that_asks_for_code_is_refused_and_nothing_runs_or_asks(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    trace = tmp_path / "ran"
    folder = checkpoints.with_own_tokenizer(make_tiny(tmp_path / "m", "llama"), trace)
    assert "its tokenizer asks for code of its own" in refusal(folder)
    assert not trace.exists()
    assert asked == []


def test_ends_inside_the_text_config_count_for_a_model_that_sees(tmp_path):
    folder = nest(make_tiny(tmp_path / "m", "qwen3"), "qwen3_vl")
    text = {"eos_token_id": [7, 8]}
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", text_config=config["text_config"] | text, eos_token_id=[9])
    edit_json(folder / "generation_config.json", eos_token_id=[10], temperature=0.7, do_sample=True)
    record = registered(folder)
    assert {7, 8, 9, 10} <= set(record.eos_token_ids)
    assert record.sampling.temperature == 0.7
