"""Says what a conversion would make of a file before anything is written, errors measured.

Must not know homes, names or records.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import mlx.core as mx
import msgspec
import numpy as np

from hotseat.library.folder import unavailable
from hotseat.library.gguf.families import Floats, UnsupportedLayout
from hotseat.library.gguf.file import GgufFile, TensorInfo
from hotseat.library.gguf.forms import FLOATS, Form, Wish, choose_form, stored_bytes
from hotseat.library.gguf.layout import Layout, TensorPlan, plan_layout
from hotseat.library.gguf.tokenizer import UnsupportedTokenizer, Vocabulary, read_vocabulary
from hotseat.library.gguf.weights import convert, decode, is_decodable, restore
from hotseat.protocol.conversions import SEEN_ERROR, ConversionPlan, TypeChange
from hotseat.protocol.limits import MIB

_SAMPLED_TENSORS: Final = 3
_SAMPLED_ROWS: Final = 64
_FLOAT_NAMES: Final[dict[str, Floats]] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WAY_OUT: Final = "import an MLX conversion of this model"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor: where it goes, how it lies in the file, what it becomes."""

    plan: TensorPlan
    tensor: TensorInfo
    form: Form

    @property
    def size_bytes(self) -> int:
        """What it will take."""
        return stored_bytes(self.plan.shape, self.form)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion that can be done: everything is known but the weights themselves."""

    gguf: GgufFile
    layout: Layout
    vocabulary: Vocabulary
    steps: tuple[Step, ...]

    @property
    def stored_bytes(self) -> int:
        """Of the tensors that are converted."""
        return sum(step.tensor.size_bytes for step in self.steps)


def plan_work(gguf: GgufFile, wish: Wish) -> Work:
    """Raises `HotseatError` model_unavailable for what cannot be converted, by name."""
    try:
        layout = plan_layout(gguf)
        vocabulary = read_vocabulary(gguf)
        _check_types(gguf)
    except (UnsupportedLayout, UnsupportedTokenizer) as finding:
        raise unavailable(
            gguf.path, f"cannot be converted: {finding}", _WAY_OUT, reason=str(finding)
        ) from finding
    dtype = _compute_dtype(gguf, layout)
    steps = []
    for plan in layout.tensors:
        tensor = gguf.tensors[plan.source]
        form = choose_form(plan, tensor.kind, wish, dtype)
        steps.append(Step(plan=plan, tensor=tensor, form=form))
    return Work(gguf=gguf, layout=layout, vocabulary=vocabulary, steps=tuple(steps))


def _check_types(gguf: GgufFile) -> None:
    kinds = {tensor.kind for tensor in gguf.tensors.values()}
    unknown = sorted(kind.name for kind in kinds if not is_decodable(kind))
    if unknown:
        raise UnsupportedLayout(
            f"tensors of type {', '.join(unknown)}, which this version of the gguf package does "
            "not decode"
        )


def _compute_dtype(gguf: GgufFile, layout: Layout) -> Floats:
    """The float type the model computes in, which is also that of its KV.

    On a GPU the architecture's half type, or the file's own if it is not quantised. The CPU backend
    has no half-precision arithmetic: there a half type is 9 to 40 times slower than float32, which
    holds every value of the file exactly.
    """
    if mx.default_device() != mx.gpu:
        return "float32"
    kinds = {
        gguf.tensors[plan.source].kind
        for plan in layout.tensors
        if len(gguf.tensors[plan.source].shape) > 1
    }
    if len(kinds) != 1 or not kinds <= set(FLOATS):
        return layout.half
    found = _FLOAT_NAMES[next(iter(kinds)).name]
    return layout.half if found == "float16" else found


def describe_work(work: Work, target: Path) -> ConversionPlan:
    """What will be written into `target`'s disk; errors are measured on a sample of rows."""
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in work.steps:
        if len(step.tensor.shape) > 1:
            groups.setdefault((step.tensor.kind.name, step.form.label), []).append(step)
    changes = [_describe_type(work.gguf, steps) for steps in groups.values()]
    return ConversionPlan(
        source=str(work.gguf.path),
        architecture=str(work.layout.config["model_type"]),
        stored_bytes=work.stored_bytes,
        size_bytes=sum(step.size_bytes for step in work.steps),
        free_bytes=shutil.disk_usage(target).free,
        types=tuple(sorted(changes, key=lambda change: -change.stored_bytes)),
        has_template=bool(work.vocabulary.template),
    )


def tell_plan(plan: ConversionPlan) -> str:
    """One line for whoever watches an import: size, types, errors, and what needs no copy."""
    types = "; ".join(
        f"{change.tensors} {change.stored} -> {change.becomes}"
        f"{'' if change.requantised else ' as it is'}"
        f"{f', error {change.error:.2%}' if change.error >= SEEN_ERROR else ''}"
        for change in plan.types
    )
    template = "" if plan.has_template else "; it has no chat template"
    return (
        f"converting {plan.stored_bytes / MIB:.1f} MiB to {plan.size_bytes / MIB:.1f} MiB "
        f"({types}){template}; a folder in MLX format would be used in place"
    )


def _describe_type(gguf: GgufFile, steps: Sequence[Step]) -> TypeChange:
    return TypeChange(
        stored=steps[0].tensor.kind.name,
        becomes=steps[0].form.label,
        tensors=len(steps),
        stored_bytes=sum(step.tensor.size_bytes for step in steps),
        size_bytes=sum(step.size_bytes for step in steps),
        requantised=not steps[0].form.kept,
        error=_measure_error(gguf, steps),
    )


def _measure_error(gguf: GgufFile, steps: Sequence[Step]) -> float:
    """Relative RMS error over rows from the first, the middle and the last of the tensors."""
    chosen = {0, len(steps) // 2, len(steps) - 1}
    difference = whole = 0.0
    for step in (steps[index] for index in sorted(chosen)[:_SAMPLED_TENSORS]):
        raw = gguf.read(step.plan.source)
        rows = np.unique(np.linspace(0, raw.shape[0] - 1, _SAMPLED_ROWS).astype(int))
        sample = raw[rows]
        values = decode(sample, step.tensor.kind)
        made = restore(convert(sample, step.tensor.kind, step.form, values.shape), step.form)
        difference += float(np.square(np.array(made) - values, dtype=np.float64).sum())
        whole += float(np.square(values, dtype=np.float64).sum())
    return (difference / whole) ** 0.5 if whole else 0.0
