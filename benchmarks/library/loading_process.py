"""A process that makes one model ready in one way, run as a script: says "ready", then how long.

The ways: `prepared`, the folder that an import made; `mx.load`, MLX's own reader of GGUF;
`convert`, our reader and the conversion of every tensor in memory, which keeps codes where MLX has
them; `gguf`, the gguf package's decoder and MLX's quantiser. Each ends with weights in a model,
evaluated, and a tokenizer; of the last three nothing is written.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
from gguf.constants import GGMLQuantizationType as Kind
from mlx import nn
from mlx_lm.tokenizer_utils import load as load_tokenizer
from mlx_lm.utils import _get_classes
from transformers import PreTrainedTokenizerFast

from hotseat.library.gguf.converting import converted
from hotseat.library.gguf.file import GgufFile, TensorInfo, open_gguf
from hotseat.library.gguf.forms import AS_STORED, choose_form
from hotseat.library.gguf.layout import plan_layout
from hotseat.library.gguf.planning import Step, Work
from hotseat.library.gguf.tokenizer import build_tokenizer, read_vocabulary
from hotseat.library.gguf.weights import rope_order
from hotseat.worker.model.building import build_model

NO_VOCABULARY: Any = None
"""The tokenizer comes after the weights."""
Named = Iterator[tuple[Step, dict[str, mx.array]]]
"""Arrays of a tensor by suffix, beside what becomes of it."""


def load_prepared(path: Path) -> float:
    model, _ = build_model(path)
    mx.eval(model.parameters())
    weights_at = time.monotonic()
    load_tokenizer(path)
    return weights_at


def load_by_mlx(path: Path) -> float:
    opened, arrays = _opened_by_mlx(path)
    return _ready(opened, lambda work: _named_by_mlx(work, arrays))


def load_converting(path: Path) -> float:
    return _ready(open_gguf(path), converted)


def load_by_package(path: Path) -> float:
    return _ready(open_gguf(path), _read_by_package)


def _opened_by_mlx(path: Path) -> tuple[GgufFile, dict[str, mx.array]]:
    """Header and arrays from one call of MLX's reader; types are told by what it made of them."""
    arrays, table = mx.load(str(path), return_metadata=True)
    tensors = {}
    for name, array in arrays.items():
        stem, _, suffix = name.rpartition(".")
        if suffix in ("scales", "biases"):
            continue
        scales = arrays.get(f"{stem}.scales")
        shape, kind = tuple(array.shape), Kind.F32
        if scales is not None:
            shape = (*shape[:-1], scales.shape[-1] * 32)
            kind = {4: Kind.Q4_1, 8: Kind.Q8_0}[array.shape[-1] * 32 // shape[-1]]
        info = TensorInfo(name=name, file=path, shape=shape, kind=kind, offset=0, size_bytes=0)
        tensors[name] = info
    metadata = {key: _plain(value) for key, value in table.items()}
    return GgufFile(path=path, metadata=metadata, tensors=tensors), arrays


def _plain(value: Any) -> Any:
    """MLX's reader gives numbers, and lists of them, as arrays."""
    if not isinstance(value, mx.array):
        return value
    return value.item() if value.size == 1 else value.tolist()


def _named_by_mlx(work: Work, arrays: dict[str, mx.array]) -> Named:
    for step in work.steps:
        stem = step.plan.source.removesuffix(".weight")
        found = {}
        for suffix in ("weight", "scales", "biases") if step.form.bits else ("weight",):
            name = f"{stem}.{suffix}" if step.form.bits else step.plan.source
            found[suffix] = _in_order(step, arrays[name])
        yield step, found


def _read_by_package(work: Work) -> Named:
    for step in work.steps:
        values = gguf.quants.dequantize(work.gguf.read(step.plan.source), step.tensor.kind)
        array = _in_order(step, mx.array(values.astype(np.float32)).reshape(step.plan.shape))
        if step.plan.transform == "norm_offset":
            array = array - 1.0
        found = {"weight": array}
        if step.form.bits:
            packed = mx.quantize(array, group_size=step.form.group, bits=step.form.bits)
            found = dict(zip(("weight", "scales", "biases"), packed, strict=True))
        mx.eval(found)
        yield step, found


def _in_order(step: Step, array: mx.array) -> mx.array:
    if step.plan.transform != "rope_rows":
        return array
    return array[mx.array(rope_order(array.shape[0], step.plan.heads))]


def _ready(opened: GgufFile, read: Callable[[Work], Any]) -> float:
    """When the weights were in the model; the tokenizer comes behind."""
    layout = plan_layout(opened)
    steps = tuple(
        Step(plan=plan, tensor=tensor, form=choose_form(plan, tensor.kind, AS_STORED, "float32"))
        for plan in layout.tensors
        for tensor in (opened.tensors[plan.source],)
    )
    work = Work(gguf=opened, layout=layout, vocabulary=NO_VOCABULARY, steps=steps)
    model_class, arguments = _get_classes(layout.config)
    model = model_class(arguments.from_dict(layout.config))
    forms = {step.plan.module: step.form for step in work.steps if step.form.bits}

    def table_of(name: str, _module: nn.Module) -> Any:
        form = forms.get(name)
        return form and {"group_size": form.group, "bits": form.bits, "mode": form.mode}

    nn.quantize(model, class_predicate=table_of)
    named = {}
    for step, arrays in read(work):
        for suffix, array in arrays.items():
            plan = step.plan
            named[f"{plan.module}.{suffix}" if step.form.bits else plan.target] = array
    if hasattr(model, "sanitize"):
        named = model.sanitize(named)
    model.load_weights(list(named.items()))
    mx.eval(model.parameters())
    weights_at = time.monotonic()
    PreTrainedTokenizerFast(tokenizer_object=build_tokenizer(read_vocabulary(opened)))
    return weights_at


WAYS: dict[str, Callable[[Path], float]] = {
    "prepared": load_prepared,
    "mx.load": load_by_mlx,
    "convert": load_converting,
    "gguf": load_by_package,
}


def serve() -> None:
    say({"state": "ready"})
    order = json.loads(sys.stdin.readline())
    started = time.monotonic()
    weights_at = WAYS[order["way"]](Path(order["path"]))
    ended = time.monotonic()
    say({"state": "loaded", "weights_s": weights_at - started, "tokenizer_s": ended - weights_at})


def say(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
    os._exit(0)
