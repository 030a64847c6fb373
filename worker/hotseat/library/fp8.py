"""Weights in 8-bit floats: MLX has no such type, so that they are converted before they are used.

mlx-lm can turn those of a few kinds into bfloat16 as it loads them: that is for its converter, at
twice the memory and anew with each load.
"""

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotseat.library.configuration import text_table
from hotseat.library.folder import TensorHeader, unavailable

_TYPES: Final = frozenset({"F8_E4M3", "F8_E5M2"})
_METHODS: Final = frozenset({"fp8", "fbgemm_fp8"})
_FORMATS: Final = frozenset({"float-quantized", "naive-quantized"})
_PACKED_BLOCK: Final = [32, 32]
"""Blocks with scales that are powers of two: what MLX calls mxfp8, and reads."""
_READS: Final = "weight_scale_inv"
"""Tensors with the scales of blocks; a kind of mlx-lm that names them can turn them back."""


def refuse_fp8(
    path: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorHeader] | None = None
) -> None:
    """Raises model_unavailable for weights in 8-bit floats, with the command that converts them."""
    if not _is_fp8(config, tensors or {}):
        return
    kinds = {str(config.get("model_type")), str(text_table(config).get("model_type"))}
    if kinds & _readable_kinds():
        remedy = f"convert it: mlx_lm.convert --hf-path {path} --mlx-path NEW_FOLDER -q"
    else:
        remedy = (
            "fetch its bfloat16 version and convert that (mlx_lm.convert --hf-path REPO --mlx-path "
            "NEW_FOLDER -q), or fetch an MLX conversion"
        )
    raise unavailable(path, "weights in 8-bit floats (fp8), a type that MLX has not", remedy)


def _is_fp8(config: Mapping[str, Any], tensors: Mapping[str, TensorHeader]) -> bool:
    """By what the configuration says of quantisation, else by the types of the tensors."""
    if config.get("quantization") is not None:
        return False
    table = config.get("quantization_config") or text_table(config).get("quantization_config")
    if not isinstance(table, Mapping) or not table:
        return any(tensor.dtype in _TYPES for tensor in tensors.values())
    return _says_fp8(table)


def _says_fp8(table: Mapping[str, Any]) -> bool:
    is_packed = (
        table.get("scale_fmt") == "ue8m0" and table.get("weight_block_size") == _PACKED_BLOCK
    )
    return (
        (table.get("quant_method") in _METHODS and not is_packed)
        or table.get("format") in _FORMATS
        or str(table.get("quant_algo", "")).upper().startswith("FP8")
    )


@functools.cache
def _readable_kinds() -> frozenset[str]:
    """Kinds of mlx-lm whose code reads the scales of fp8, told by its source."""
    found = importlib.util.find_spec("mlx_lm")
    places = found.submodule_search_locations if found is not None else None
    files = (Path(places[0]) / "models").glob("*.py") if places else ()
    return frozenset(file.stem for file in files if _READS in file.read_text(encoding="utf-8"))
