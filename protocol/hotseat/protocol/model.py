"""What registration learns about a model, as stored in `models/NAME/model.json`. Pure.

Written by `hotseat.library`, read by the supervisor (which never opens weights) and by the worker.
"""

import math
from typing import Final, Literal

import msgspec

from hotseat.protocol.ids import ModelName, Tag
from hotseat.protocol.messages import Sampling
from hotseat.protocol.residence import WeightParts

RECORD_FILE = "model.json"
RECORD_VERSION = 1
KV_LAYOUT_VERSION = 1
PROBE_VERSION = 2
"""Grows when registration learns something new of chat templates."""
STATES_HELD = 2
"""Recurrent states in memory per sequence: the newest, and the snapshot it can go back to."""


FloatType = Literal["float32", "float16", "bfloat16"]
FLOAT_BYTES: dict[FloatType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


class StateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One array of a recurrent layer: `shape` without the batch axis."""

    shape: tuple[int, ...]
    dtype: FloatType

    @property
    def size_bytes(self) -> int:
        """Bytes per sequence, whatever its length."""
        return math.prod(self.shape) * FLOAT_BYTES[self.dtype]


class LayerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Geometry of one cache, in cache order (`make_prompt_cache`); nested lists are flattened.

    `kind` "full": every token is kept. "window": only the newest `window` tokens. "state": a
    recurrent layer, whose `states` are of one size however many tokens went in; no K and V.
    K has shape (1, kv_heads, tokens, k_dim), V (1, kv_heads, tokens, v_dim); MLA keeps its latent
    as K and its rotary keys as V. `group` numbers the list the cache is in, None outside of one.
    """

    kind: Literal["full", "window", "state"]
    kv_heads: int = 0
    k_dim: int = 0
    v_dim: int = 0
    window: int = 0
    states: tuple[StateSpec, ...] = ()
    group: int | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the caches of a model allow.

    `cuts`: where a context can be cut back to. "tokens": anywhere. "blocks": at stored blocks and
    tails, because sliding windows forget. "snapshots": where the recurrent state was kept.
    `batches`: requests can share a step; without it one runs at a time.
    """

    cuts: Literal["tokens", "blocks", "snapshots"] = "tokens"
    batches: bool = True


TOKENIZER_BYTES_PER_BYTE: Final = 18
"""A tokenizer in memory over its file: 208 MiB over 11.7 of Gemma 3, as measured."""
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model")


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
    forces_calls: bool = False
    """Calls in this format can be forced, as `tool_choice` required or a named tool asks."""
    thinking: bool = False
    """The tokenizer has marks of reasoning."""
    keeps_reasoning: bool = True
    """False: the template drops the reasoning of earlier turns."""
    version: int = 0
    """What was looked for: an older hotseat knew of less (`PROBE_VERSION`)."""
    arguments: tuple[str, ...] = ()
    """Names that the template reads beside messages and tools: the legal `template_args`."""
    call_arguments: Literal["object", "text"] = "object"
    """The form in which the template takes the arguments of calls."""
    null_content: bool = False
    """The template shows calls only where content is null."""
    folds: tuple[str, ...] = ()
    """What the template does not take, and what stands for it instead where it stood.

    `system`, `several_system`, `later_system`: text of the user turn beside it. `user_turns` (in a
    row): one turn. `assistant_turns` (in a row, or first): a user turn between them. `calls`,
    `results`: marked text. `parallel_calls`: one after the other. `missing_results`: a result that
    says so. `user_after_results`: text of the last result. `call_ids`: short ones.
    """


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the model came from."""

    kind: Literal["gguf", "mlx"]
    path: str
    licence: str = ""
    repository: str = ""
    """Its name on the hub, for what lies in the hub's cache."""
    revision: str = ""
    """The commit of that repository."""


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
    """Of what is loaded. Files can hold more: see `left_on_disk`."""
    context_tokens: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    layers: tuple[LayerSpec, ...]
    kv_dtype: FloatType
    template: TemplateProbe
    prefill_chunk: int = 256
    """Tokens of a prompt fed at once; a file has the default, machine and settings decide."""
    stores_scores: bool = False
    """Attention over several queries stores its scores: there is no fused kernel for it. A file
    has the default, the machine decides."""
    attention_heads: int = 0
    """Of the queries; 0: its configuration does not say, or registered by an older version."""
    unfit_reason: str = ""
    adapter: str = ""
    """Absolute folder of the LoRA adapter that is loaded with the model; empty: none."""
    registered_at: float = 0.0
    mlx_lm_version: str = ""
    batches: bool = True
    """False: the model's code takes one sequence at a time."""
    experts: int = 0
    """Experts of a layer; 0: dense, or registered by an older version."""
    sampling: Sampling = Sampling()
    """How to draw where nobody says: what `generation_config.json` states."""
    parts: WeightParts | None = None
    """None: registered by an older version."""
    left_on_disk: tuple[str, ...] = ()
    """What its files have weights for and nobody loads: images, sound, drafting."""

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one KV number."""
        return FLOAT_BYTES[self.kv_dtype]

    @property
    def capabilities(self) -> Capabilities:
        """What the caches allow."""
        kinds = {layer.kind for layer in self.layers}
        if "state" in kinds:
            return Capabilities(cuts="snapshots", batches=self.batches)
        return Capabilities(cuts="blocks" if "window" in kinds else "tokens", batches=self.batches)

    @property
    def is_recurrent(self) -> bool:
        """True if some layer's state cannot be cut back, only kept in snapshots."""
        return any(layer.kind == "state" for layer in self.layers)

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent state of one sequence, whatever its length."""
        return sum(state.size_bytes for layer in self.layers for state in layer.states)

    @property
    def tokenizer_bytes(self) -> int:
        """About what the tokenizer takes in memory."""
        sizes = (file.size_bytes for file in self.files if file.name in _TOKENIZERS)
        return TOKENIZER_BYTES_PER_BYTE * sum(sizes)

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
        """Bytes of one sequence of `tokens` tokens: KV, windows and recurrent state."""
        numbers = 0
        for layer in self.layers:  # a plan asks some ten times for each of a thousand models
            held = tokens if layer.kind == "full" else min(tokens, layer.window)
            numbers += held * layer.kv_heads * (layer.k_dim + layer.v_dim)
        return self.state_bytes + numbers * self.dtype_bytes


def _layer_bytes(layer: LayerSpec, dtype_bytes: int) -> int:
    return layer.kv_heads * (layer.k_dim + layer.v_dim) * dtype_bytes
