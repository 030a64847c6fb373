"""What becomes of every construct of JSON Schema, as docs/schemas.md says it in its table.

Enforced: the daemon takes it, and with a real tokenizer no violating text can be drawn, token by
token or byte by byte. Refused: the daemon says no before a model is seated. Annotation: nothing
changes by it.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from llguidance import LLMatcher
from mlx_lm.utils import load_tokenizer
from tests.support.models.tiny_models import write_tokenizer

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.conversation.schemas.check import check_arguments, check_schema
from hotseat.worker.text.grammar import Grammars
from hotseat.worker.text.schemas import Plain

PAGE = Path(__file__).parents[3] / "docs" / "schemas.md"
ROW = re.compile(r"^\| (.+?) \| (enforced|refused|annotation) \|", re.MULTILINE)
FIELD = "response_format.schema"
END = 2


class Row(NamedTuple):
    """A row of the table: texts that can be drawn, and texts that cannot."""

    construct: str
    verdict: str
    schema: dict
    good: tuple = ()
    bad: tuple = ()


def of_object(properties, **more):
    return {"type": "object", "properties": properties, "additionalProperties": False} | more


def kind(name, **more):
    properties = {"kind": {"const": name}, **more}
    return of_object(properties, required=list(properties))


NUMBER, TEXT = {"type": "integer"}, {"type": "string"}
TREE = of_object({"next": {"$ref": "#/$defs/tree"}})
ROWS = [
    Row("`type`", "enforced", TEXT, ('"a"',), ("1", "null", "true", "{}", "[]")),
    Row("`type` with several", "enforced", {"type": ["string", "null"]}, ('"a"', "null"), ("1",)),
    Row("`enum`", "enforced", {"enum": ["a", 1, None]}, ('"a"', "1", "null"), ('"b"', "2")),
    Row("`const`", "enforced", {"const": {"a": [1]}}, ('{"a":[1]}',), ('{"a":[2]}', "{}")),
    Row(
        "`$ref` within the schema",
        "enforced",
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": TEXT}},
        ('"a"',),
        ("1",),
    ),
    Row(
        "`$ref` to an `$anchor`",
        "enforced",
        {"$ref": "#name", "$defs": {"x": {"$anchor": "name", "type": "integer"}}},
        ("1",),
        ('"a"',),
    ),
    Row(
        "`$ref` beside other keywords",
        "enforced",
        {"$ref": "#/$defs/a", "maxLength": 2, "$defs": {"a": TEXT}},
        ('"ab"',),
        ('"abc"', "1"),
    ),
    Row(
        "`$ref` to a recursive schema",
        "enforced",
        {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
        ('{"next":{"next":{}}}',),
        ('{"next":{"next":1}}', '{"next":null}'),
    ),
    Row(
        "a recursive `$ref` beside other keywords",
        "refused",
        {"$ref": "#/$defs/tree", "required": ["next"], "$defs": {"tree": TREE}},
    ),
    Row(
        "a value that needs another of its kind",
        "refused",
        {"$ref": "#/$defs/a", "$defs": {"a": kind("a", next={"$ref": "#/$defs/a"})}},
    ),
    Row(
        "a schema that refers to itself for the same value",
        "refused",
        {"anyOf": [{"$ref": "#/anyOf/1"}, {"$ref": "#/anyOf/0"}]},
    ),
    Row("`$ref` out of the schema", "refused", {"$ref": "https://example.org/a.json"}),
    Row("`$dynamicRef`, `$recursiveRef`", "refused", {"$dynamicRef": "#x"}),
    Row(
        "`allOf`",
        "enforced",
        {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 4}]},
        ("2", "4"),
        ("1", "5", '"a"'),
    ),
    Row("`anyOf`", "enforced", {"anyOf": [TEXT, NUMBER]}, ('"a"', "1"), ("null", "1.5")),
    Row(
        "`oneOf` of kinds that exclude each other",
        "enforced",
        {"oneOf": [{"$ref": "#/$defs/a"}, kind("b", n=NUMBER)], "$defs": {"a": kind("a", n=TEXT)}},
        ('{"kind":"a","n":"x"}', '{"kind":"b","n":1}'),
        ('{"kind":"a","n":1}', '{"kind":"c","n":1}'),
    ),
    Row("`oneOf` of kinds that may overlap", "refused", {"oneOf": [NUMBER, {"type": "number"}]}),
    Row("`not`", "refused", {"type": "string", "not": {"const": "a"}}),
    Row("`if`, `then`, `else`", "refused", {"if": {"type": "string"}, "then": {"minLength": 1}}),
    Row(
        "`properties`, `required`",
        "enforced",
        of_object({"a": NUMBER, "b": TEXT}, required=["b"]),
        ('{"a":1,"b":"x"}', '{"b":"x"}'),
        ('{"a":1}', '{"a":"x","b":"x"}', "{}", '{"b":"x","b":"y"}'),
    ),
    Row(
        "more than 200 properties of an object that may be left out",
        "refused",
        of_object({f"p{number}": TEXT for number in range(201)}),
    ),
    Row(
        "`additionalProperties`",
        "enforced",
        {"type": "object", "properties": {"a": NUMBER}, "additionalProperties": TEXT},
        ('{"a":1,"b":"x"}', '{"b":"x"}'),
        ('{"b":1}', '{"a":"x"}', r'{"\u0061":"x"}'),
    ),
    Row(
        "`patternProperties`",
        "enforced",
        {
            "type": "object",
            "properties": {"n": TEXT},
            "patternProperties": {"^x_": NUMBER, "^y_[a-z]*$": TEXT},
            "additionalProperties": False,
        },
        ('{"x_1":1}', '{"n":"a","y_a":"b"}'),
        ('{"x_1":"a"}', '{"z":1}', '{"y_1":"a"}', r'{"\u0078_1":"a"}'),
    ),
    Row(
        "`patternProperties` that hold for a name of `properties`",
        "refused",
        {"properties": {"ab": TEXT}, "patternProperties": {"^a": NUMBER}},
    ),
    Row(
        "`patternProperties` that may hold for the same name",
        "refused",
        {"patternProperties": {"^a": TEXT, "b$": NUMBER}},
    ),
    Row(
        "`patternProperties` merged with other constraints",
        "refused",
        {"allOf": [{"patternProperties": {"^a": TEXT}}, {"properties": {"ab": NUMBER}}]},
    ),
    Row("`propertyNames`", "refused", {"type": "object", "propertyNames": {"maxLength": 2}}),
    Row(
        "`minProperties`, `maxProperties`",
        "enforced",
        {"type": "object", "minProperties": 1, "maxProperties": 2},
        ('{"a":1}', '{"a":1,"b":2}'),
        ("{}", '{"a":1,"b":2,"c":3}'),
    ),
    Row(
        "`minProperties`, `maxProperties` where properties may be left out",
        "refused",
        of_object({"a": TEXT, "b": TEXT, "c": TEXT}, minProperties=2),
    ),
    Row(
        "`minProperties` of 1, `maxProperties` of 1 of a closed object",
        "enforced",
        of_object({"a": NUMBER, "b": NUMBER}, minProperties=1, maxProperties=1),
        ('{"a":1}', '{"b":1}'),
        ("{}", '{"a":1,"b":1}'),
    ),
    Row("`minProperties` above 1 of free names", "refused", {"type": "object", "minProperties": 2}),
    Row(
        "`dependentRequired`, `dependentSchemas`, `dependencies`",
        "refused",
        {"type": "object", "dependentRequired": {"a": ["b"]}},
    ),
    Row(
        "`unevaluatedProperties`, `unevaluatedItems`",
        "refused",
        {"type": "object", "unevaluatedProperties": False},
    ),
    Row("`items`", "enforced", {"type": "array", "items": NUMBER}, ("[1,2]", "[]"), ('["a"]',)),
    Row(
        "`prefixItems`",
        "enforced",
        {"type": "array", "prefixItems": [TEXT], "items": NUMBER, "additionalItems": False},
        ('["a",1]', "[]"),
        ("[1]", '["a","b"]'),
    ),
    Row(
        "`items` as a list, `additionalItems`",
        "enforced",
        {"type": "array", "items": [TEXT], "additionalItems": False},
        ('["a"]',),
        ("[1]", '["a","b"]'),
    ),
    Row(
        "`minItems`, `maxItems`",
        "enforced",
        {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 2},
        ("[1]", "[1,2]"),
        ("[]", "[1,2,3]"),
    ),
    Row("`uniqueItems`", "refused", {"type": "array", "uniqueItems": True}),
    Row("`contains`, `minContains`, `maxContains`", "refused", {"contains": TEXT}),
    Row(
        "`minLength`, `maxLength`",
        "enforced",
        {"type": "string", "minLength": 2, "maxLength": 3.0},
        ('"ab"', '"é漢😀"', r'"\n\n"'),
        ('"a"', '"abcd"'),
    ),
    Row(
        "`pattern`",
        "enforced",
        {"type": "string", "pattern": r"^(a|\d{2,3})[^x-z]?$"},
        ('"a"', '"12b"', '"123"'),
        ('"b"', '"1"', '"12x"', '"ab2"'),
    ),
    Row("`pattern` with `^` or `$` in the middle", "refused", {"pattern": "a$b"}),
    Row("`pattern` that looks ahead or behind", "refused", {"pattern": "^(?!a)b"}),
    Row("`pattern` with `\\b`, `\\1` or flags", "refused", {"pattern": r"\bword\b"}),
    Row("`pattern` with large repetitions", "refused", {"pattern": "a{1000}"}),
    Row(
        "`format`: date-time, time, date, duration, email, hostname, ipv4, ipv6, uuid, uri",
        "enforced",
        {"type": "string", "format": "date"},
        ('"2024-02-28"',),
        ('"2024-02-31"', '"today"'),
    ),
    Row("any other `format`", "annotation", {"type": "string", "format": "phone"}, ('"x"',)),
    Row(
        "`minimum`, `maximum`",
        "enforced",
        {"type": "number", "minimum": -1.5, "maximum": 2},
        ("-1.5", "0.25", "2"),
        ("-1.6", "2.1", "20"),
    ),
    Row(
        "`exclusiveMinimum`, `exclusiveMaximum`",
        "enforced",
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 4},
        ("2", "3"),
        ("1", "4", "11"),
    ),
    Row("bounds and constants beyond ±(2^53-1)", "refused", {"type": "number", "minimum": 1e300}),
    Row(
        "`multipleOf`",
        "enforced",
        {"type": "number", "multipleOf": 0.25},
        ("0.50", "-1.75", "3"),
        ("0.30", "1.1", "0.2500"),
    ),
    Row("`multipleOf` with many digits", "refused", {"type": "number", "multipleOf": 1e-12}),
    Row(
        "integers without bounds",
        "enforced",
        NUMBER,
        ("-9007199254740991", "9007199254740991"),
        ("9007199254740992", "10000000000000000000", "1.0", "01"),
    ),
    Row("what leaves no value", "refused", {"type": "string", "minLength": 3, "maxLength": 2}),
    Row(
        "`title`, `description`, `default`, `examples`, `deprecated`, `readOnly`, `writeOnly`, "
        "`$comment`",
        "annotation",
        {"type": "string", "title": "A", "default": 3, "examples": [4], "$comment": "c"},
        ('"x"',),
    ),
    Row(
        "`$schema`, `$id`",
        "annotation",
        {"$schema": "http://json-schema.org/draft-04/schema#", "$id": "a", "type": "string"},
        ('"x"',),
    ),
    Row(
        "`contentEncoding`, `contentMediaType`",
        "annotation",
        {"type": "string", "contentEncoding": "base64"},
        ('"x!"',),
    ),
    Row(
        "`nullable`, `discriminator`", "annotation", {"type": "string", "nullable": True}, ('"x"',)
    ),
    Row(
        "any other keyword",
        "annotation",
        {"type": "string", "minLenght": 3, "x-guidance": {"lenient": True}},
        ('"x"',),
    ),
]
BY_VERDICT = {
    verdict: [pytest.param(row, id=row.construct) for row in ROWS if row.verdict == verdict]
    for verdict in ("enforced", "refused", "annotation")
}


@pytest.fixture(scope="module")
def grammars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    return Grammars(tokenizer, len(tokenizer), frozenset({END}))


def spellings(grammars, text):
    """The text as ids: as its tokenizer would, and byte by byte.

    What has to come next may be drawn in the tokenizer's own spelling only.
    """
    tokens = grammars._tokens(FIELD)
    yield tokens.tokenize_str(text)
    yield [token for byte in text.encode() for token in tokens.tokenize_bytes(bytes([byte]))]


def can_draw(grammars, schema, ids):
    """True if the answer may be these ids and end behind them."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(Plain(schema).whole()))
    matcher = LLMatcher(grammars._tokens(FIELD), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    for token in [*ids, END]:
        allowed = matcher.compute_bitmask()
        if not allowed[token // 8] & (1 << token % 8):
            return False
        assert matcher.consume_token(token)
    return True


def test_page_has_the_rows_that_are_tested():
    assert ROW.findall(PAGE.read_text(encoding="utf-8")) == [row[:2] for row in ROWS]


@pytest.mark.parametrize("row", BY_VERDICT["enforced"])
def test_enforced_construct_lets_no_violating_text_be_drawn(grammars, row):
    check_schema(row.schema, FIELD)
    grammars.check_schema(row.schema, FIELD)
    assert row.good and row.bad
    for text, is_good in [(text, True) for text in row.good] + [(text, False) for text in row.bad]:
        drawn = [can_draw(grammars, row.schema, ids) for ids in spellings(grammars, text)]
        assert any(drawn) is is_good, text


@pytest.mark.parametrize("row", BY_VERDICT["refused"])
def test_refused_construct_is_refused_by_the_daemon_naming_its_place(row):
    with pytest.raises(HotseatError) as caught:
        check_schema(row.schema, FIELD)
    assert caught.value.code in ("unsupported_feature", "invalid_request")
    assert caught.value.facts["field"] == FIELD
    with pytest.raises(HotseatError):
        check_arguments(of_object({"a": row.schema}), "tools[0].function.parameters", "json_tools")


@pytest.mark.parametrize("row", BY_VERDICT["annotation"])
def test_annotation_changes_nothing(grammars, row):
    check_schema(row.schema, FIELD)
    assert Plain(row.schema).whole() == Plain({"type": "string"}).whole()
    for text in row.good:
        assert any(can_draw(grammars, row.schema, ids) for ids in spellings(grammars, text))
