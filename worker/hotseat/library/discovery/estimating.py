"""Records as far as planning needs them, made from what headers say. Builds nothing."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from hotseat.library.configuration import (
    first_positive,
    stated_context,
    stated_heads,
    text_table,
)
from hotseat.library.discovery.shape import estimate_layers, estimate_parts
from hotseat.library.discovery.templates import look_at_template
from hotseat.library.folder import ModelFolder, TensorHeader
from hotseat.library.left_on_disk import beside_bytes, left_on_disk, part_of
from hotseat.protocol.ids import ModelName, Tag
from hotseat.protocol.model import (
    FLOAT_BYTES,
    FloatType,
    ModelRecord,
    ModelSource,
    TagParts,
    TemplateProbe,
)

_FLOATS: Final[Mapping[str, FloatType]] = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
_UNREAD: Final = TemplateProbe(mode="raw", reason="only headers were read")
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PACKED: Final = "U32"
_WORD_BITS: Final = 32
_USUAL_BITS: Final = 4
_GGUF_KEYS: Final = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "v_head_dim": "attention.value_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "vocab_size": "vocab_size",
}
"""Fields of config.json by the names that GGUF files have for them."""


def estimate_folder(name: str, folder: ModelFolder) -> ModelRecord:
    """What an MLX folder would cost; its weights to the byte, as far as they would be loaded."""
    config = folder.config
    tensors = [tensor for name, tensor in folder.tensors.items() if not part_of(folder, name)]
    dtype = _float_type(tensors)
    return _record(
        name,
        folder.path,
        config,
        kv_dtype=dtype,
        quantisation=_quantisation(config) or dtype,
        parameters=_parameters(config, tensors),
        weights_bytes=sum(file.stat().st_size for file in folder.weights) - beside_bytes(folder),
        left_on_disk=left_on_disk(folder),
        template=look_at_template(folder),
    )


def estimate_listed(name: str, config: Mapping[str, Any], weights_bytes: int) -> ModelRecord:
    """What a repository would cost of which only config.json and the sizes are known."""
    bits = first_positive(_quantisation_table(config), "bits")
    stated = str(text_table(config).get("dtype") or text_table(config).get("torch_dtype"))
    dtype: FloatType = next((known for known in FLOAT_BYTES if known == stated), "bfloat16")
    return _record(
        name,
        Path(name),
        config,
        kv_dtype=dtype,
        quantisation=_quantisation(config) or dtype,
        parameters=weights_bytes * 8 // (bits or FLOAT_BYTES[dtype] * 8),
        weights_bytes=weights_bytes,
    )


def estimate_gguf(name: str, file: Path, head: Mapping[str, Any], size_bytes: int) -> ModelRecord:
    """What a GGUF file would cost once converted: about its own size."""
    kind = str(head.get("general.architecture", ""))
    config: dict[str, Any] = {
        ours: head.get(f"{kind}.{theirs}") for ours, theirs in _GGUF_KEYS.items()
    }
    stated = first_positive(head, "general.parameter_count")
    return _record(
        name,
        file,
        config | {"model_type": kind},
        kv_dtype="bfloat16",
        quantisation="",
        parameters=stated or size_bytes * 8 // _USUAL_BITS,
        weights_bytes=size_bytes,
        kind="gguf",
    )


def _record(
    name: str,
    path: Path,
    config: Mapping[str, Any],
    *,
    kv_dtype: FloatType,
    quantisation: str,
    parameters: int,
    weights_bytes: int,
    kind: str = "mlx",
    left_on_disk: tuple[str, ...] = (),
    template: TemplateProbe = _UNREAD,
) -> ModelRecord:
    text = text_table(config)
    experts = first_positive(text, *_EXPERTS)
    return ModelRecord(
        name=ModelName(name),
        path=str(path),
        tag=Tag(""),
        tag_parts=TagParts(**dict.fromkeys(TagParts.__struct_fields__, "")),
        source=ModelSource(kind="gguf" if kind == "gguf" else "mlx", path=str(path)),
        architecture=str(config.get("model_type", "")),
        quantisation=quantisation,
        parameters=parameters,
        files=(),
        weights_bytes=weights_bytes,
        context_tokens=stated_context(config),
        vocab_size=first_positive(text, "vocab_size"),
        eos_token_ids=(),
        layers=estimate_layers(text),
        kv_dtype=kv_dtype,
        template=template,
        experts=experts,
        attention_heads=stated_heads(config),
        parts=estimate_parts(text, weights_bytes, experts),
        left_on_disk=left_on_disk,
    )


def _float_type(tensors: Collection[TensorHeader]) -> FloatType:
    """The commonest float type by size: that of KV, too."""
    sizes: Counter[FloatType] = Counter()
    for tensor in tensors:
        if tensor.dtype in _FLOATS:
            sizes[_FLOATS[tensor.dtype]] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else "float32"


def _quantisation_table(config: Mapping[str, Any]) -> Mapping[str, Any]:
    table = config.get("quantization") or config.get("quantization_config")
    return table if isinstance(table, dict) else {}


def _quantisation(config: Mapping[str, Any]) -> str:
    """For people, like `4-bit g64`; empty for a model that is not quantised."""
    table = _quantisation_table(config)
    bits, group = first_positive(table, "bits"), first_positive(table, "group_size")
    mode = str(table.get("mode") or table.get("quant_method") or "")
    label = f"{bits}-bit g{group}" if bits and group else ""
    return " ".join(word for word in (label, "" if mode == "affine" else mode) if word)


def _parameters(config: Mapping[str, Any], tensors: Collection[TensorHeader]) -> int:
    """Numbers of the model; packed words hold several, their scales are not counted apart."""
    bits = first_positive(_quantisation_table(config), "bits") or _USUAL_BITS
    packed = sum(tensor.size for tensor in tensors if tensor.dtype == _PACKED)
    if packed:
        return packed * _WORD_BITS // bits
    return sum(tensor.size for tensor in tensors)
