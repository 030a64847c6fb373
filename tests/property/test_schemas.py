"""No schema is followed half-way: what the daemon takes compiles, and what is drawn obeys it."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from mlx_lm.utils import load_tokenizer
from tests.support.models.tiny_models import write_tokenizer

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.conversation.schemas.check import check_schema
from hotseat.supervisor.conversation.schemas.overlap import Automaton, can_overlap
from hotseat.supervisor.conversation.schemas.patterns import PatternError, read_pattern
from hotseat.worker.text.schemas import Plain

END = 2
NAMES = ("a", "ab", "b", "x_1")
PATTERNS = ("^a", "b$", "^x_", r"^\d+$", "^(a|b){1,3}$", "[^a]")
TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")


def maybe(**fields):
    """Any of these keywords."""
    return st.fixed_dictionaries({}, optional=fields)


SIMPLE = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(st.sampled_from(["a", "b", 1, 2.5, None, True]), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    maybe(
        minimum=st.sampled_from([-3, 0, 2.5]),
        maximum=st.sampled_from([3, 7.25]),
        exclusiveMinimum=st.sampled_from([-1, 2]),
        multipleOf=st.sampled_from([1, 2, 0.5]),
    ).flatmap(
        lambda bounds: st.sampled_from(["integer", "number"]).map(lambda t: {"type": t} | bounds)
    ),
    maybe(
        minLength=st.integers(0, 2), maxLength=st.integers(0, 4), pattern=st.sampled_from(PATTERNS)
    ).map(lambda limits: {"type": "string"} | limits),
    st.sampled_from([{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/other"}, {"$ref": "#"}]),
)


def grown(inner):
    names = st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)
    return st.one_of(
        maybe(
            properties=names,
            required=st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            additionalProperties=st.one_of(st.booleans(), inner),
            patternProperties=st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
            minProperties=st.integers(0, 2),
            maxProperties=st.integers(0, 3),
        ).map(lambda rest: {"type": "object"} | rest),
        maybe(
            items=inner,
            prefixItems=st.lists(inner, min_size=1, max_size=2),
            minItems=st.integers(0, 2),
            maxItems=st.integers(0, 3),
        ).map(lambda rest: {"type": "array"} | rest),
        st.lists(inner, min_size=1, max_size=2).flatmap(
            lambda entries: st.sampled_from(["anyOf", "allOf", "oneOf"]).map(
                lambda key: {key: entries}
            )
        ),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    )


SCHEMAS = st.recursive(SIMPLE, grown, max_leaves=6).flatmap(
    lambda root: st.tuples(SIMPLE, st.recursive(SIMPLE, grown, max_leaves=3)).map(
        lambda pair: root | {"$defs": {"one": pair[0], "other": pair[1]}}
    )
)


def is_type(value, name):
    match name:
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
    return isinstance(value, {"string": str, "array": list, "object": dict}[name])


def same(value, other):
    return json.dumps(value) == json.dumps(other) or (
        is_type(value, "number") and is_type(other, "number") and value == other
    )


def obeys(value, schema, root):
    """JSON Schema 2020-12 as plainly as it can be said, of the keywords above."""
    if isinstance(schema, bool):
        return schema
    checks = [
        any(is_type(value, name) for name in [schema.get("type", TYPES)] if isinstance(name, str))
        or not isinstance(schema.get("type", ()), str),
        any(same(value, other) for other in schema.get("enum", [value])),
        all(obeys(value, one, root) for one in schema.get("allOf", ())),
        any(obeys(value, one, root) for one in schema.get("anyOf", [True])),
        sum(obeys(value, one, root) for one in schema.get("oneOf", [True])) == 1,
    ]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        checks.append(obeys(value, root if name == "#" else root["$defs"][name], root))
    if is_type(value, "number"):
        checks += [
            schema.get("minimum", value) <= value <= schema.get("maximum", value),
            "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
            "multipleOf" not in schema or (value / schema["multipleOf"]) % 1 == 0,
        ]
    if isinstance(value, str):
        checks += [
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)),
            re.search(schema.get("pattern", "").replace("$", r"\Z"), value) is not None,
        ]
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        checks += [
            schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)),
            *(obeys(entry, one, root) for entry, one in zip(value, first, strict=False)),
            *(obeys(entry, schema.get("items", True), root) for entry in value[len(first) :]),
        ]
    if isinstance(value, dict):
        checks += [
            set(schema.get("required", ())) <= value.keys(),
            schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)),
            *(obeys_member(name, entry, schema, root) for name, entry in value.items()),
        ]
    return all(checks)


def obeys_member(name, value, schema, root):
    found = [one for key, one in schema.get("properties", {}).items() if key == name]
    table = schema.get("patternProperties", {}).items()
    found += [one for pattern, one in table if re.search(pattern.replace("$", r"\Z"), name)]
    return all(
        obeys(value, one, root) for one in found or [schema.get("additionalProperties", True)]
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    return LLTokenizer(
        tokenizer.backend_tokenizer.to_str(), n_vocab=len(tokenizer), eos_token=[END]
    )


def draw(tokens, schema, rng, limit=60):
    """Random text of the grammar, ending as soon as it may half of the time; None if it goes on."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(Plain(schema).whole()))
    matcher = LLMatcher(tokens, grammar, log_level=0)
    ids = []
    while len(ids) < limit:
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = [int(one) for one in np.unpackbits(bits, bitorder="little").nonzero()[0]]
        assert not matcher.is_error(), matcher.get_error()
        assert allowed, "the answer ends in the middle"
        token = END if END in allowed and rng.random() < 0.5 else rng.choice(allowed)
        if token == END:
            return tokens.decode_str(ids)
        assert matcher.consume_token(token)
        ids.append(token)
    return None


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.randoms(use_true_random=False))
def test_whatever_the_daemon_takes_compiles_and_is_obeyed(tokens, schema, rng):
    try:
        check_schema(schema, "schema")
    except HotseatError:
        return
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(Plain(schema).whole()))
    is_bad, messages = LLMatcher.validate_grammar_with_warnings(grammar, tokens)
    if is_bad:
        # docs/schemas.md: what contradicts itself over several schemas is the worker's to refuse.
        assert "nsatisfiable" in messages[0], messages
        return
    assert not messages
    for _ in range(3):
        text = draw(tokens, schema, rng)
        if text is not None:
            assert obeys(json.loads(text), schema, schema), text


PIECES = st.sampled_from(
    ["a", "b", "[ab]", "[^a]", r"\d", ".", "(a|bc)", "a*", "b+", "a?", "a{1,2}"]
)
WRITTEN = st.tuples(
    st.booleans(), st.lists(PIECES, min_size=1, max_size=4), st.booleans(), st.booleans()
).map(
    lambda made: ("^" if made[0] else "") + ("|" if made[3] else "").join(made[1]) + "$" * made[2]
)


@given(WRITTEN, st.text("abc1", max_size=6))
def test_pattern_is_found_where_a_regular_expression_finds_it(pattern, text):
    expected = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert Automaton(read_pattern(pattern)).matches(text) is expected


@given(WRITTEN, WRITTEN, st.lists(st.text("abc1", max_size=4), max_size=20))
def test_patterns_that_cannot_overlap_share_no_text(one, other, texts):
    left, right = Automaton(read_pattern(one)), Automaton(read_pattern(other))
    if not can_overlap(left, right):
        assert not any(left.matches(text) and right.matches(text) for text in texts)


@given(st.text("ab^$|()[]{},-\\d.*+?:1\u00e9", max_size=12))
def test_pattern_that_is_taken_compiles(tokens, pattern):
    try:
        read_pattern(pattern)
    except PatternError:
        return
    schema = json.dumps({"type": "string", "pattern": pattern})
    is_bad, messages = LLMatcher.validate_grammar_with_warnings(
        LLMatcher.grammar_from_json_schema(schema), tokens
    )
    assert not is_bad or "Regex is empty" in messages[0], messages
