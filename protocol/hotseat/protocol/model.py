"""What registration learns about a model, as stored in `models/NAME/model.json`. Pure.

Written by `hotseat.library`, read by the supervisor (which never opens weights) and by the worker.
"""

from typing import Literal

import msgspec

from hotseat.protocol.ids import ModelName, Tag

RECORD_FILE = "model.json"
RECORD_VERSION = 1
KV_LAYOUT_VERSION = 1


class LayerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """KV geometry of one cache entry, in cache order (`make_prompt_cache`).

    `kind` "full": every token is kept. "window": only the newest `window` tokens.
    K has shape (1, kv_heads, tokens, k_dim), V (1, kv_heads, tokens, v_dim).
    """

    kind: Literal["full", "window"]
    kv_heads: int
    k_dim: int
    v_dim: int
    window: int = 0


class FileDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the model folder as it was at registration; `mtime_ns` detects later changes."""

    name: str
    size_bytes: int
    mtime_ns: int
    blake2b: str


class TagParts(msgspec.Struct, frozen=True, kw_only=True):
    """Digests that make up the tag, kept apart so that a mismatch can name its reason."""

    architecture: str
    weights: str
    quantisation: str
    tokenizer: str
    template: str
    adapter: str
    kv: str


class TemplateProbe(msgspec.Struct, frozen=True, kw_only=True):
    """How a further turn is appended.

    `exact`: closing ids + rendered difference equal rendering the whole dialogue.
    `render`: the whole history has to be rendered. `raw`: the model has no chat template.
    `reason` says why it is not `exact`.
    """

    mode: Literal["exact", "render", "raw"]
    reason: str = ""
    system: bool = True
    """False: the template refuses or drops system messages."""
    tools: bool = False
    """The template shows tools to the model."""
    append_tools: bool = False
    """A turn can be appended as `mode` says in a conversation with tools as well."""
    tool_parser: str = ""
    """Name of mlx-lm's parser for the calls of this model; empty: it has none."""
    thinking: bool = False
    """The tokenizer has marks of reasoning."""
    keeps_reasoning: bool = True
    """False: the template drops the reasoning of earlier turns."""
    arguments: tuple[str, ...] = ()
    """Names that the template reads beside messages and tools: the legal `template_args`."""


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the model came from."""

    kind: Literal["gguf", "mlx"]
    path: str
    licence: str = ""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the supervisor needs to plan, refuse, tag and seat a model.

    `unfit_reason` is empty when the engine can serve the model; otherwise the sentence a user
    gets (unsupported cache kind or architecture). Sizes are bytes.
    """

    record_version: int = RECORD_VERSION
    name: ModelName
    path: str
    """Absolute folder that mlx-lm loads."""
    tag: Tag
    tag_parts: TagParts
    source: ModelSource
    architecture: str
    """`model_type` of config.json."""
    quantisation: str
    """For people: "4-bit g32", "bfloat16"."""
    parameters: int
    files: tuple[FileDigest, ...]
    weights_bytes: int
    context_tokens: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    layers: tuple[LayerSpec, ...]
    kv_dtype: Literal["float32", "float16", "bfloat16"]
    template: TemplateProbe
    prefill_chunk: int = 256
    unfit_reason: str = ""
    registered_at: float = 0.0
    mlx_lm_version: str = ""

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one KV number."""
        return 4 if self.kv_dtype == "float32" else 2

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one more token adds in the layers that keep every token."""
        return sum(
            _layer_bytes(layer, self.dtype_bytes) for layer in self.layers if layer.kind == "full"
        )

    @property
    def window_bytes(self) -> int:
        """Bytes of all sliding windows of one sequence when they are full."""
        return sum(
            layer.window * _layer_bytes(layer, self.dtype_bytes)
            for layer in self.layers
            if layer.kind == "window"
        )

    def kv_bytes(self, tokens: int) -> int:
        """Bytes of the KV of one sequence of `tokens` tokens, windows included."""
        return sum(
            (tokens if layer.kind == "full" else min(tokens, layer.window))
            * _layer_bytes(layer, self.dtype_bytes)
            for layer in self.layers
        )


def _layer_bytes(layer: LayerSpec, dtype_bytes: int) -> int:
    return layer.kv_heads * (layer.k_dim + layer.v_dim) * dtype_bytes
