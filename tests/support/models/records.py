"""Model records and catalogue rows for tests that need no model."""

from hotseat.protocol.ids import ModelName, SessionName, Tag
from hotseat.protocol.limits import GIB
from hotseat.protocol.model import (
    PROBE_VERSION,
    LayerSpec,
    ModelRecord,
    ModelSource,
    TagParts,
    TemplateProbe,
)
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue.rows import AcceptRecord, TurnCommit

TAG = Tag("a" * 32)


def full_layers(count, kv_heads=8, dim=128):
    return tuple(
        LayerSpec(kind="full", kv_heads=kv_heads, k_dim=dim, v_dim=dim) for _ in range(count)
    )


def window_layers(count, window, kv_heads=8, dim=256):
    return tuple(
        LayerSpec(kind="window", kv_heads=kv_heads, k_dim=dim, v_dim=dim, window=window)
        for _ in range(count)
    )


def model_record(name="m", **changes):
    fields = {
        "name": ModelName(name),
        "path": "/nowhere",
        "tag": TAG,
        "tag_parts": TagParts(
            architecture="a",
            weights="w",
            quantisation="q",
            tokenizer="t",
            template="c",
            adapter="",
            kv="k",
        ),
        "source": ModelSource(kind="mlx", path="/nowhere"),
        "architecture": "llama",
        "quantisation": "4-bit g64",
        "parameters": 8_030_000_000,
        "files": (),
        "weights_bytes": int(4.2 * GIB),
        "context_tokens": 131_072,
        "vocab_size": 128_256,
        "eos_token_ids": (2,),
        "layers": full_layers(32),
        "kv_dtype": "bfloat16",
        "template": TemplateProbe(mode="exact", version=PROBE_VERSION),
    }
    return ModelRecord(**(fields | changes))


def turn_commit(tokens, session="s", model="m", **changes):
    fields = {
        "model": ModelName(model),
        "session": SessionName(session),
        "tag": TAG,
        "tokenizer_digest": "t",
        "tokens": pack_tokens(tokens),
        "messages": b"[]",
        "message_count": 2,
        "hint": b"hint",
        "closed": True,
        "clock": 1.0,
        "at": 10.0,
    }
    return TurnCommit(**(fields | changes))


def accept_record(request_id="r1", **changes):
    token = "f" * 32
    fields = {
        "key": f"{token}:{request_id}",
        "token": token,
        "request_id": request_id,
        "kind": "generate",
        "body": b"body",
        "model": ModelName("m"),
        "created_at": 1.0,
    }
    return AcceptRecord(**(fields | changes))
