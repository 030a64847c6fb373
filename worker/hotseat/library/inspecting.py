"""What can be known of a model folder from its configuration and weight headers alone.

Nothing is registered, digested or loaded: weights need not even be there, only their headers.
"""

import time
from importlib.metadata import version
from pathlib import Path

from hotseat.library.configuration import stated_heads
from hotseat.library.folder import unavailable
from hotseat.library.geometry import measure_geometry
from hotseat.library.hub_cache import name_of_source, resolve_source
from hotseat.library.left_on_disk import left_on_disk
from hotseat.library.mlx_kinds import open_known_folder
from hotseat.library.registering import read_context_tokens
from hotseat.library.working_set import working_set_bytes
from hotseat.protocol.ids import ModelName, Tag
from hotseat.protocol.model import ModelRecord, ModelSource, TagParts, TemplateProbe
from hotseat.protocol.process_lines import Inspected


def inspect_folder(path: Path) -> Inspected:
    """The record of a folder as far as planning needs it. Raises model_unavailable."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise unavailable(folder, "there is no such folder", "check the path")
    name = name_of_source(folder)
    folder = resolve_source(folder)
    opened = open_known_folder(folder, needs_tokenizer=False)
    geometry = measure_geometry(folder)
    record = ModelRecord(
        name=ModelName(name),
        path=str(folder),
        tag=Tag(""),
        tag_parts=TagParts(**dict.fromkeys(TagParts.__struct_fields__, "")),
        source=ModelSource(kind="mlx", path=str(folder)),
        architecture=str(opened.config["model_type"]),
        quantisation=geometry.quantisation,
        parameters=geometry.parameters,
        attention_heads=stated_heads(opened.config),
        files=(),
        weights_bytes=geometry.loaded_bytes,
        left_on_disk=left_on_disk(opened),
        context_tokens=read_context_tokens(opened, geometry, None),
        vocab_size=geometry.vocab_size,
        eos_token_ids=(),
        layers=geometry.layers,
        kv_dtype=geometry.kv_dtype,
        template=TemplateProbe(mode="raw", reason="the folder was only inspected"),
        unfit_reason=geometry.unfit_reason,
        registered_at=time.time(),
        mlx_lm_version=version("mlx-lm"),
        batches=geometry.batches,
        parts=geometry.parts,
    )
    return Inspected(record=record, working_set_bytes=working_set_bytes())
