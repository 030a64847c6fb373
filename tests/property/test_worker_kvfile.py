"""KV files over arbitrary payloads and arbitrary damage."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engine.kv_payloads import same_payload

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.model import FLOAT_BYTES
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.store.kv_file import KvDamagedError, read_kv, write_kv
from hotseat.worker.store.kv_format import KvPayload, LayerPart, encode_file

NAME = "x.kv"
TAG = Tag("ef" * 16)
PARENT = BlockId("01" * 16)


@st.composite
def payloads(draw: st.DrawFn) -> KvPayload:
    tokens = draw(st.lists(st.integers(0, 2**32 - 1), max_size=20))
    entries = draw(st.lists(st.integers(0, 200), unique=True, max_size=4))
    parts = []
    for entry in entries:
        dtype = draw(st.sampled_from(sorted(FLOAT_BYTES)))
        count = draw(st.integers(0, 9))
        k_shape = (draw(st.integers(1, 3)), count, draw(st.integers(1, 9)))
        v_shape = (draw(st.integers(1, 3)), count, draw(st.integers(1, 9)))
        sizes = [
            shape[0] * shape[1] * shape[2] * FLOAT_BYTES[dtype] for shape in (k_shape, v_shape)
        ]
        parts.append(
            LayerPart(
                entry=entry,
                tokens=count,
                keys=draw(st.binary(min_size=sizes[0], max_size=sizes[0])),
                values=draw(st.binary(min_size=sizes[1], max_size=sizes[1])),
                k_shape=k_shape,
                v_shape=v_shape,
                dtype=dtype,
            )
        )
    return KvPayload(
        tag=TAG,
        parent=PARENT,
        tokens=pack_tokens(tokens),
        hint=draw(st.binary(max_size=100)),
        parts=tuple(parts),
    )


@settings(max_examples=60)
@given(payloads())
def test_any_payload_round_trips(payload: KvPayload) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_kv(Path(folder), NAME, payload)
        found = read_kv(Path(folder), NAME, tag=TAG, parent=PARENT, tokens=payload.tokens)
    assert same_payload(found, payload)


@settings(max_examples=150)
@given(payloads(), st.data())
def test_any_damage_raises_only_kv_damaged(payload: KvPayload, data: st.DataObject) -> None:
    good = b"".join(bytes(piece) for piece in encode_file(payload))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    bad = good[:start] + data.draw(st.binary(max_size=80)) + good[end:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NAME).write_bytes(bad)
        try:
            found = read_kv(Path(folder), NAME, tag=TAG, parent=None, tokens=None)
        except KvDamagedError:
            assert bad != good
        else:
            assert bad == good and same_payload(found, payload)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_kv_damaged(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NAME).write_bytes(b"HOTSEAT\n" + data)
        try:
            read_kv(Path(folder), NAME, tag=TAG, parent=None, tokens=None)
        except KvDamagedError:
            return
    raise AssertionError("believed")
