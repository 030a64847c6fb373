"""Makes the record of an MLX folder and writes it. Must not know where the folder came from."""

import contextlib
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from hotseat.library import identity
from hotseat.library.adapter import digest_adapter
from hotseat.library.configuration import stated_context, stated_heads
from hotseat.library.doubles import refuse_other_doubles
from hotseat.library.durable import write_durably
from hotseat.library.folder import (
    ModelFolder,
    digest_files,
    read_table,
    refusing,
    unavailable,
)
from hotseat.library.geometry import Geometry, measure_geometry
from hotseat.library.left_on_disk import left_on_disk
from hotseat.library.mlx_kinds import open_known_folder
from hotseat.library.progress import OnProgress
from hotseat.library.turn_ends import stated_ends, template_end
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import RECORD_FILE, FileDigest, ModelRecord, ModelSource, TagParts
from hotseat.protocol.model_files import FAST_TOKENIZER, GENERATION_CONFIG
from hotseat.protocol.tags import adapter_digest, kv_part, model_tag
from hotseat.worker.text.rendering import template_text
from hotseat.worker.text.template_probe import probe_template
from hotseat.worker.text.tokenizer import open_tokenizer

_ASKS_FOR_CODE: Final = "trust_remote_code"
"""Stands in what transformers says of a folder that wants to run code."""
_STATED: Final = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def describe_folder(
    folder: Path,
    name: ModelName,
    source: ModelSource,
    on_progress: OnProgress,
    *,
    context_tokens: int | None = None,
    final_path: Path | None = None,
    requantised: tuple[str, ...] = (),
    adapter: Path | None = None,
) -> ModelRecord:
    """The record of an MLX folder; `final_path` is where the folder will be used from.

    `requantised` names the types of a converted file that lost precision on the way.
    """
    opened = open_known_folder(folder)
    on_progress("inspect", 0.0)
    geometry = measure_geometry(folder)
    on_progress("inspect", 50.0)
    probe = probe_template(tokenizer := _open_tokenizer(opened))
    on_progress("inspect", 100.0)
    adapted = () if adapter is None else digest_adapter(folder, adapter, on_progress)
    refuse_other_doubles(opened)
    digests = digest_files(opened, on_progress)
    parts = structs.replace(
        _tag_parts(opened, digests, tokenizer),
        adapter=adapter_digest(adapted),
        kv=kv_part(geometry.kv_dtype),
    )
    again = f", re-quantised from {'/'.join(requantised)}" if requantised else ""
    return ModelRecord(
        name=name,
        path=str(final_path or folder),
        tag=model_tag(parts),
        tag_parts=parts,
        source=source,
        architecture=str(opened.config["model_type"]),
        quantisation=geometry.quantisation + again,
        parameters=geometry.parameters,
        experts=geometry.experts,
        attention_heads=stated_heads(opened.config),
        files=(*digests.values(), *adapted),
        adapter="" if adapter is None else str(adapter),
        weights_bytes=geometry.loaded_bytes + sum(file.size_bytes for file in adapted),
        left_on_disk=left_on_disk(opened),
        context_tokens=read_context_tokens(opened, geometry, context_tokens),
        vocab_size=geometry.vocab_size or len(tokenizer),
        eos_token_ids=tuple(sorted(int(token) for token in tokenizer.eos_token_ids)),
        layers=geometry.layers,
        batches=geometry.batches,
        parts=geometry.parts,
        kv_dtype=geometry.kv_dtype,
        template=probe,
        unfit_reason=geometry.unfit_reason,
        registered_at=time.time(),
        mlx_lm_version=version("mlx-lm"),
        sampling=stated_sampling(read_table(folder / GENERATION_CONFIG)),
    )


def _tag_parts(opened: ModelFolder, digests: Mapping[str, FileDigest], tokenizer: Any) -> TagParts:
    """Those that the files alone tell."""
    tokenizer_files = [digests[file.name] for file in opened.tokenizer]
    return TagParts(
        architecture=identity.architecture_digest(opened.config),
        weights=identity.weights_digest(digests[file.name] for file in opened.weights),
        quantisation=identity.quantisation_digest(opened.config),
        tokenizer=identity.tokenizer_digest(tokenizer_files, opened.tokenizer_config),
        template=identity.template_digest(template_text(tokenizer)),
        adapter="",
        kv="",
    )


def stated_sampling(table: dict[str, Any] | None) -> Sampling:
    """How a `generation_config.json` says to draw; what is not of the right kind is left out.

    Its `temperature` is 1 unless it says so, if it says to draw at all.
    """
    if table is None or table.get("do_sample") is False:
        return Sampling()
    given: dict[str, Any] = {"temperature": 1.0} if table.get("do_sample") else {}
    given |= {key: value for key, value in table.items() if key in _STATED and value is not None}
    known = {}
    for key, value in given.items():
        with contextlib.suppress(msgspec.ValidationError):
            known[key] = getattr(msgspec.convert({key: value}, Sampling), key)
    return Sampling(**known)


def _open_tokenizer(folder: ModelFolder) -> Any:
    """As the worker will open it; transformers raises whatever its parsers raise."""
    what, remedy = "its tokenizer cannot be opened", "download the tokenizer files again"
    if FAST_TOKENIZER not in {file.name for file in folder.tokenizer}:
        remedy = f"fetch a version with {FAST_TOKENIZER}, or a sound sentencepiece tokenizer.model"
    try:
        with refusing(folder.path, what, remedy):
            tokenizer = open_tokenizer(folder.path, stated_ends(folder))
    except HotseatError as error:
        if _ASKS_FOR_CODE not in str(error.__cause__):
            raise
        raise unavailable(
            folder.path,
            "its tokenizer asks for code of its own, and no code of a model folder is ever run",
            "use a version whose tokenizer is of a class that transformers has",
        ) from error
    if tokenizer.has_chat_template and (end := template_end(tokenizer)) is not None:
        tokenizer.eos_token_ids |= {end}
    return tokenizer


def write_record(folder: Path, record: ModelRecord) -> None:
    """`model.json`, durable and never seen half written."""
    data = msgspec.json.format(msgspec.json.encode(record), indent=1)
    write_durably(folder / RECORD_FILE, data)


def read_context_tokens(folder: ModelFolder, geometry: Geometry, asked: int | None) -> int:
    """The model's context length; `asked` may only make it shorter."""
    known = stated_context(folder.config) or geometry.model_context_tokens
    if asked is None and not known and not geometry.unfit_reason:
        raise unavailable(
            folder.path,
            "config.json names no context length",
            "give it with --context N",
        )
    if asked is not None and (asked < 1 or (known and asked > known)):
        raise HotseatError(
            "invalid_request",
            f"context of {asked} tokens is outside 1 to {known or 'any'}, what the model was made "
            "for; choose a smaller --context",
            asked_tokens=asked,
            model_tokens=known,
        )
    return asked or known
