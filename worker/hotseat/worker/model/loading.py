"""Loading and warming a model: verified files, weights in groups, limits, typed failures.

Must not know requests. Nothing but this file and `metal` sets MLX's memory limits.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import load_adapters
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import Load
from hotseat.protocol.link_reports import Loaded, Warmed
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.model_files import added_file, list_files
from hotseat.worker.dying import pass_on_loss, tells_of_memory
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.building import build_model
from hotseat.worker.model.caches import layer_kinds, new_caches, unservable_entry
from hotseat.worker.model.preparing import LoadKit, TokenizerKit
from hotseat.worker.streaming.places import NotStreamableError
from hotseat.worker.streaming.seated import Streaming
from hotseat.worker.text.grammar import Grammars
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.tokenizer import open_tokenizer

GROUP_BYTES: Final = 64 * MIB
"""Weights evaluated between two progress reports."""

OnProgress = Callable[[int, int, int], None]
"""Bytes done, bytes in all, bytes until the next call."""


class LoadFailedError(HotseatError):
    """Loading failed; `permanent`: trying again cannot help."""

    def __init__(self, code: str, message: str, *, permanent: bool, **facts: Any) -> None:
        super().__init__(code, message, **facts)
        self.permanent = permanent


class SeatedModel(Struct, frozen=True):
    """What exists while a model has the seat. `model` is an mlx module."""

    record: ModelRecord
    load: Load
    model: Any
    kit: TokenizerKit
    streaming: Streaming | None = None
    """Rooms and open files, of a model that is not whole in memory."""

    def kv_budget(self) -> KvBudget:
        """What rows may take. Metal's steps wait for memory, those of a CPU for its cores."""
        reads = self.record.weights_bytes if mx.metal.is_available() else 0
        return KvBudget(self.record, self.load.kv_budget_bytes, reads)


def load_kit(record: ModelRecord) -> TokenizerKit:
    """Tokenizer and renderer of a registered model. Raises LoadFailedError for changed files."""
    verify_files(record)
    tokenizer = open_tokenizer(Path(record.path), record.eos_token_ids, record.template.tool_parser)
    grammars = Grammars(tokenizer, record.vocab_size, frozenset(record.eos_token_ids))
    return TokenizerKit(tokenizer, Renderer(tokenizer, record.template), grammars)


def load_model(
    load: Load, on_progress: OnProgress, take_kit: LoadKit = load_kit
) -> tuple[SeatedModel, Loaded]:
    """Weights and tokenizer of `load.record` in memory. Raises LoadFailedError."""
    record = load.record
    started = time.monotonic()
    if record.unfit_reason:
        raise LoadFailedError("model_unfit", record.unfit_reason, permanent=True)
    verify_files(record)
    if load.memory_limit_bytes > 0:
        mx.set_memory_limit(load.memory_limit_bytes)
    if load.cache_limit_bytes > 0:
        mx.set_cache_limit(load.cache_limit_bytes)
    try:
        model, _config = build_model(Path(record.path))
        if record.adapter:
            load_adapters(model, record.adapter)
            model.eval()  # new layers begin in training mode, with dropout
        # Building draws first values that are thrown away; the global key would keep their graph.
        mx.eval(mx.random.state)
        _check_caches(record, model)
        streaming = _streaming(load, model)
        _evaluate_weights(model, on_progress)
        kit = take_kit(record)
    except Exception as error:
        pass_on_loss(error)
        raise _as_failure(load, error) from error
    seated = SeatedModel(record, load, model, kit, streaming)
    seconds = time.monotonic() - started
    return seated, Loaded(active_bytes=int(mx.get_active_memory()), seconds=seconds)


def warm_model(seated: SeatedModel) -> Warmed:
    """One token through the model: kernels are compiled, weights are paged in.

    Not where layers are on the disk: it would read them all, and the first prompt does so anyway.
    """
    started = time.monotonic()
    residence = seated.load.residence
    if residence is None or residence.mode != "layers":
        _run_token(seated)
    mx.clear_cache()
    return Warmed(seconds=time.monotonic() - started, peak_bytes=int(mx.get_peak_memory()))


def _run_token(seated: SeatedModel) -> None:
    token = seated.record.eos_token_ids[0] if seated.record.eos_token_ids else 0
    try:
        mx.eval(seated.model(mx.array([[token]]), cache=new_caches(seated.model)))
    except Exception as error:
        pass_on_loss(error)
        raise _as_failure(seated.load, error) from error


def verify_files(record: ModelRecord) -> None:
    """Raises LoadFailedError unless every file has the size and time it was registered with.

    A file that came since would be read too, and be mixed with what was registered.
    """
    for entry in record.files:
        path = Path(record.path) / entry.name
        try:
            found = path.stat()
        except OSError as error:
            raise _other_file(path, f"cannot be read ({error.strerror})", record) from error
        if (found.st_size, found.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
            raise _other_file(
                path,
                f"changed since {record.name} was registered ({found.st_size} bytes, "
                f"{entry.size_bytes} then)",
                record,
                size_bytes=found.st_size,
                registered_bytes=entry.size_bytes,
            )
    if added := added_file(record):
        path = Path(record.path) / added
        raise _other_file(path, f"was not there when {record.name} was registered", record)


def _other_file(path: Path, what: str, record: ModelRecord, **facts: Any) -> LoadFailedError:
    return LoadFailedError(
        "model_unavailable",
        f"{path} {what}; import {record.name} again",
        permanent=True,
        file=str(path),
        **facts,
    )


def _check_caches(record: ModelRecord, model: Any) -> None:
    caches = make_prompt_cache(model)
    kind = unservable_entry(caches)
    if kind is None and layer_kinds(caches) != [layer.kind for layer in record.layers]:
        kind = "other caches than those it was registered with; import it again"
    if kind is not None:
        raise LoadFailedError(
            "model_unfit",
            f"{record.name} keeps its state in {kind}, which cannot be served",
            permanent=True,
            kind=kind,
        )


def _streaming(load: Load, model: Any) -> Streaming | None:
    """Hooks what is not to be in memory, before any weight is read."""
    if load.residence is None:
        return None
    files = [Path(load.record.path) / name for name in list_files(Path(load.record.path)).weights]
    try:
        return Streaming(model, files, load.residence)
    except NotStreamableError as error:
        raise LoadFailedError(
            "model_unfit",
            f"{load.record.name} does not fit, and cannot be read as it is needed: {error}",
            permanent=True,
            reason=str(error),
        ) from error


def _evaluate_weights(model: Any, on_progress: OnProgress) -> None:
    groups = _weight_groups(model)
    total = sum(size for _, size in groups)
    done = 0
    on_progress(0, total, groups[0][1])
    # All is under way at once, as mlx-lm's own load does it: reading never rests. Waiting
    # group by group only tells how far it is.
    mx.async_eval([array for arrays, _ in groups for array in arrays])  # type: ignore[no-untyped-call]
    following = [size for _, size in groups[1:]]
    for (arrays, size), next_size in zip(groups, [*following, 0], strict=True):
        mx.eval(arrays)
        done += size
        on_progress(done, total, next_size)


def _weight_groups(model: Any) -> list[tuple[list[mx.array], int]]:
    """Arrays in load order with their bytes, `GROUP_BYTES` or a little more to each group."""
    groups: list[tuple[list[mx.array], int]] = [([], 0)]
    # Layers that pass through rooms have the same arrays.
    distinct = {id(array): array for _, array in tree_flatten(model.parameters())}
    for array in distinct.values():
        if groups[-1][1] >= GROUP_BYTES:
            groups.append(([], 0))
        arrays, size = groups[-1]
        arrays.append(array)
        groups[-1] = (arrays, size + int(array.nbytes))
    return groups


def _as_failure(load: Load, error: Exception) -> LoadFailedError:
    if isinstance(error, LoadFailedError):
        return error
    record = load.record
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or tells_of_memory(text):
        size_bytes = load.resident_bytes
        held = "" if load.residence is None else f" in memory, of {record.weights_bytes}"
        return LoadFailedError(
            "memory_pressure",
            f"no memory for {record.name} ({size_bytes} bytes of weights{held}): {text}",
            permanent=False,
            weights_bytes=size_bytes,
        )
    is_content = isinstance(
        error, RuntimeError | ValueError | KeyError | TypeError | AttributeError | OSError
    )
    return LoadFailedError(
        "model_unavailable",
        f"{record.name} at {record.path} cannot be loaded: {text}; import it again",
        permanent=is_content,
        reason=text,
    )
