"""The tag: equal for equal files, different for anything that changes KV."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hotseat.library import identity
from hotseat.protocol.model import FileDigest, TagParts
from hotseat.protocol.tags import canonical_json, kv_part, model_tag

HEX = st.text("0123456789abcdef", min_size=4, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
CONFIG = st.dictionaries(st.text(max_size=4), JSON, max_size=4)
PARTS = st.builds(TagParts, **dict.fromkeys(TagParts.__struct_fields__, HEX))
FILES = st.lists(
    st.builds(
        FileDigest,
        name=st.text(max_size=4),
        size_bytes=st.integers(0, 99),
        mtime_ns=st.integers(0, 99),
        blake2b=HEX,
    ),
    max_size=4,
    unique_by=lambda file: file.name,
)
IRRELEVANT = st.sampled_from(sorted(identity._IRRELEVANT_CONFIG))


@given(PARTS, st.sampled_from(TagParts.__struct_fields__), HEX)
def test_tag_changes_with_every_part(parts, field, value):
    changed = msgspec.structs.replace(parts, **{field: value})
    same = getattr(parts, field) == value
    assert (model_tag(parts) == model_tag(changed)) is same


@given(CONFIG, IRRELEVANT, JSON)
def test_architecture_ignores_what_does_not_matter_for_kv(config, key, value):
    assert identity.architecture_digest({**config, key: value}) == identity.architecture_digest(
        {name: kept for name, kept in config.items() if name != key}
    )


@given(CONFIG, st.text(min_size=5, max_size=6), JSON)
def test_architecture_changes_with_any_other_field(config, key, value):
    if key in identity._IRRELEVANT_CONFIG:
        return
    before = identity.architecture_digest(config)
    assert identity.architecture_digest({**config, key: value}) != before


@given(CONFIG)
def test_digests_do_not_depend_on_the_order_of_keys(config):
    turned = dict(reversed(config.items()))
    assert identity.architecture_digest(config) == identity.architecture_digest(turned)
    assert json.loads(canonical_json(config)) == config


@given(FILES, st.randoms(), st.integers(0, 99))
def test_weights_ignore_order_and_times_but_nothing_else(files, random, mtime):
    shuffled = [msgspec.structs.replace(file, mtime_ns=mtime) for file in files]
    random.shuffle(shuffled)
    assert identity.weights_digest(files) == identity.weights_digest(shuffled)
    if files:
        changed = msgspec.structs.replace(files[0], size_bytes=files[0].size_bytes + 1)
        assert identity.weights_digest([changed, *files[1:]]) != identity.weights_digest(files)


@given(FILES, CONFIG, st.text(max_size=4))
def test_tokenizer_does_not_count_the_chat_template(files, config, template):
    digest = identity.tokenizer_digest(files, config)
    assert identity.tokenizer_digest(files, {**config, "chat_template": template}) == digest
    assert identity.tokenizer_digest(files, {**config, "add_bos_token": "x"}) != digest


@given(JSON, JSON)
def test_quantisation_counts_tables_at_both_levels(top, nested):
    plain = identity.quantisation_digest({})
    found = identity.quantisation_digest(
        {"quantization": top, "text_config": {"quantization": nested}}
    )
    assert (found == plain) is (top is None and nested is None)


def test_kv_part_names_layout_and_dtype():
    assert kv_part("float16") != kv_part("bfloat16")
    assert "layout=1" in kv_part("float16")
