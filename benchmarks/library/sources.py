"""The GGUF files that are loaded: two real ones, and one of random K-quants that is large.

Must not know what is measured.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from benchmarks.measure import console
from hotseat.library.samples import GEMMA3, SMOLLM2, fetch_sample

_HIDDEN = 2048
_FEED_FORWARD = 8192
_HEADS = 16
_VOCABULARY = 32768
_LAYER_NUMBERS = 4 * _HIDDEN * _HIDDEN + 3 * _HIDDEN * _FEED_FORWARD


def real_files(cache: Path) -> list[Path]:
    """SmolLM2 Q4_1 and Gemma 3 270M Q4_K_M, fetched once as the demo does."""
    return [
        fetch_sample(sample, cache, lambda _phase, _percent: None).gguf_path
        for sample in (SMOLLM2, GEMMA3)
    ]


def synthetic_file(cache: Path, size_mb: int) -> Path:
    """A llama whose matrices are random Q4_K, of about this size; made once."""
    path = cache / f"random-q4k-{size_mb}mb.gguf"
    if path.exists():
        return path
    console.print(f"making {path} (once)")
    partial = path.with_suffix(".partial")
    items, block_bytes = GGML_QUANT_SIZES[Kind.Q4_K]
    layers = max(1, round(size_mb * 1e6 * items / block_bytes / _LAYER_NUMBERS))
    writer = gguf.GGUFWriter(str(partial), "llama")
    _write_facts(writer, layers)
    shapes = {"attn_q": (_HIDDEN, _HIDDEN), "attn_k": (_HIDDEN, _HIDDEN)}
    shapes |= {"attn_v": (_HIDDEN, _HIDDEN), "attn_output": (_HIDDEN, _HIDDEN)}
    shapes |= {"ffn_gate": (_FEED_FORWARD, _HIDDEN), "ffn_up": (_FEED_FORWARD, _HIDDEN)}
    shapes |= {"ffn_down": (_HIDDEN, _FEED_FORWARD)}
    matrices = {f"blk.{n}.{name}": shape for n in range(layers) for name, shape in shapes.items()}
    norms = [f"blk.{n}.{name}" for n in range(layers) for name in ("attn_norm", "ffn_norm")]
    for name, shape in {"token_embd": (_VOCABULARY, _HIDDEN), **matrices}.items():
        writer.add_tensor(f"{name}.weight", _blocks(shape), raw_dtype=Kind.Q4_K)
    for name in ("output_norm", *norms):
        writer.add_tensor(f"{name}.weight", np.ones(_HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.rename(path)


def _blocks(shape: tuple[int, int]) -> np.ndarray:
    """Random codes under small scales; the same for every tensor of a shape."""
    items, block_bytes = GGML_QUANT_SIZES[Kind.Q4_K]
    rng = np.random.default_rng(shape[0])
    made = rng.integers(0, 256, (shape[0], shape[1] // items, block_bytes), dtype=np.uint8)
    made[..., :4] = np.array([1e-4, 1e-3], np.float16).view(np.uint8)
    return made.reshape(shape[0], -1)


def _write_facts(writer: gguf.GGUFWriter, layers: int) -> None:
    writer.add_context_length(4096)
    writer.add_embedding_length(_HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    words = [f"w{number}" for number in range(_VOCABULARY)]
    writer.add_token_list(words)
    writer.add_token_merges([])
    writer.add_eos_token_id(0)
