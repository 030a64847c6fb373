"""Which kinds of models mlx-lm has code for, told without importing it. Runs nothing of it.

Importing mlx-lm takes seconds; its kinds are the names of its files, and one table in its source.
"""

import ast
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotseat.library.folder import ModelFolder, TensorHeader, open_folder, unavailable
from hotseat.library.fp8 import refuse_fp8
from hotseat.protocol.errors import HotseatError

_PACKAGE: Final = "mlx_lm"
_TABLE: Final = "MODEL_REMAPPING"
_UNREADABLE_METHODS: Final = frozenset({"bitsandbytes", "hqq", "quanto", "aqlm", "eetq"})
_CODE_KEYS: Final = ("model_file", "auto_map")


@functools.cache
def known_kinds() -> frozenset[str]:
    """Every `model_type` that mlx-lm can build."""
    found = importlib.util.find_spec(_PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    if not places:
        return frozenset()
    package = Path(places[0])
    files = {file.stem for file in (package / "models").glob("*.py")}
    return frozenset(files | set(_other_names(package / "utils.py")))


def _other_names(source: Path) -> Mapping[str, str]:
    """Names for which mlx-lm uses the code of another kind."""
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == _TABLE for target in node.targets
        ):
            table: Mapping[str, str] = ast.literal_eval(node.value)
            return table
    return {}


def open_known_folder(path: Path, *, needs_tokenizer: bool = True) -> ModelFolder:
    """A folder that passed the checks and needs no code of its own; model_unavailable if not."""
    opened = open_folder(path, needs_tokenizer=needs_tokenizer)
    refuse_own_code(path, opened.config)
    refuse_fp8(path, opened.config, opened.tensors)
    return opened


def refuse_own_code(path: Path, config: Mapping[str, Any]) -> None:
    """Raises model_unavailable for a folder that only its own code could load.

    `auto_map` names code for transformers: where mlx-lm has its own of that kind, nothing of it is
    read. `model_file` names code for mlx-lm, which is never run.
    """
    kind = str(config.get("model_type"))
    asked = [key for key in _CODE_KEYS if config.get(key)]
    if "model_file" not in asked and (not asked or kind in known_kinds()):
        return
    raise unavailable(
        path,
        f"it asks for code of its own ({asked[0]} {config[asked[0]]!r} in config.json), and no "
        "code of a model folder is ever run",
        "use a model of a kind that mlx-lm knows",
        architecture=kind,
    )


def why_unsupported(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorHeader] | None = None
) -> str:
    """Why mlx-lm cannot build this; empty if nothing speaks against it.

    `tensors`: those of its files, where they are here.
    """
    try:
        refuse_own_code(folder, config)
        refuse_fp8(folder, config, tensors)
    except HotseatError as error:
        return error.message.removeprefix(f"{folder}: ")
    kind = str(config["model_type"])
    if kind not in known_kinds():
        return f"models of kind {kind} are not known to this mlx-lm"
    table = config.get("quantization_config")
    method = str(table.get("quant_method", "")) if isinstance(table, dict) else ""
    if method in _UNREADABLE_METHODS:
        return f"weights quantised by {method}, which MLX cannot read; fetch an MLX conversion"
    return ""
