"""Places where programs leave models, with headers as they are and sparse files for weights."""

import hashlib
import json
import struct
from pathlib import Path

from hotseat.protocol.limits import GIB, MIB

REVISION = "a" * 40
CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "quantization": {"group_size": 64, "bits": 4},
}


def mlx_folder(folder: Path, size_bytes: int = GIB, shards: int = 1, **config) -> Path:
    """A whole MLX folder of 4-bit weights that take no room on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    names = [f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]
    names = names if shards > 1 else ["model.safetensors"]
    for number, name in enumerate(names):
        write_shard(folder / name, size_bytes // shards, f"layers.{number}")
    if shards > 1:
        table = {f"layers.{number}.weight": name for number, name in enumerate(names)}
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder


def write_shard(file: Path, size_bytes: int, prefix: str = "layers.0") -> None:
    words = size_bytes // 4
    table = {
        f"{prefix}.weight": {"dtype": "U32", "shape": [words], "data_offsets": [0, words * 4]},
        f"{prefix}.scales": {
            "dtype": "BF16",
            "shape": [64],
            "data_offsets": [words * 4, words * 4 + 128],
        },
    }
    header = json.dumps(table).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + words * 4 + 128)


def in_hub(cache: Path, repository: str, made: Path) -> Path:
    """Puts a folder into the hub's cache as a snapshot whose files are links to blobs."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    for file in sorted(made.iterdir()):
        blob = folder / "blobs" / hashlib.sha256(file.name.encode()).hexdigest()
        file.rename(blob)
        (snapshot / file.name).symlink_to(blob)
    made.rmdir()
    return snapshot


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf_head(architecture: str = "llama", words: int = 4096) -> bytes:
    """The header of a GGUF file up to the end of its vocabulary."""
    facts = {
        "block_count": 32,
        "embedding_length": 4096,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "context_length": 8192,
    }
    data = b"GGUF" + struct.pack("<IQQ", 3, 1, len(facts) + 2)
    data += _text("general.architecture") + struct.pack("<I", 8) + _text(architecture)
    for key, value in facts.items():
        data += _text(f"{architecture}.{key}") + struct.pack("<II", 4, value)
    data += _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words)
    return data + b"".join(_text(f"word{number}") for number in range(words))


def gguf_file(file: Path, size_bytes: int = GIB, architecture: str = "llama") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(gguf_head(architecture))
        stream.truncate(size_bytes)
    return file


def in_ollama(store: Path, name: str, tag: str = "latest", size_bytes: int = 64 * MIB) -> Path:
    """A model in Ollama's store; the blob."""
    digest = hashlib.sha256(f"{name}:{tag}".encode()).hexdigest()
    blob = gguf_file(store / "blobs" / f"sha256-{digest}", size_bytes)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": size_bytes,
    }
    manifest = store / "manifests/registry.ollama.ai/library" / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": [layer]}))
    return blob
