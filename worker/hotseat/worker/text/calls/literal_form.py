"""Calls written as code: Python's keyword arguments, and Gemma's `call:name{key:value}`.

Must not know streams.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final

from hotseat.protocol.messages import Tool
from hotseat.worker.text.calls.call import (
    CallError,
    CallUnfinishedError,
    Found,
    ParsedCall,
    make_call,
    skip_space,
)
from hotseat.worker.text.calls.json_form import read_json, read_objects

_JSON: Final = re.compile(r"\[?\s*\{")
_CUT_SHORT: Final = ("unterminated", "was never closed", "unexpected EOF")
_JSON_WORDS: Final = {"true": True, "false": False, "null": None}
_DEEPEST: Final = 100
_HEAD: Final = re.compile(r"call:(?P<name>[\w.-]+)")
_KEY: Final = re.compile(r"\s*(?P<key>[^\s:{}\[\],\"]+)\s*:")
_BARE: Final = re.compile(r"[^,{}\[\]\"]*")
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def read_python(body: str, tools: Sequence[Tool]) -> Found:
    """Calls of a list `[name(key=value, ...), ...]`; a single call may stand without brackets.

    JSON is read as well: such models write it when they are told to.
    """
    source = body.strip()
    if not source:
        raise CallUnfinishedError("the call is empty")
    if _JSON.match(source):
        return read_objects(body, tools)
    try:
        with warnings.catch_warnings(action="ignore"):  # they would tell the model's words
            tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        kind = CallUnfinishedError if _is_cut_short(str(error.msg)) else CallError
        raise kind("the call is no Python expression", error.offset or 0) from None
    except (ValueError, RecursionError, MemoryError):
        raise CallError("the call is no Python expression") from None
    nodes = tree.elts if isinstance(tree, ast.List) else [tree]
    if not nodes:
        raise CallError("the list of calls is empty")
    return [_python_call(node, tools) for node in nodes], len(body)


def read_gemma4(body: str, tools: Sequence[Tool]) -> Found:
    """Calls with strings between marks of their own."""
    return _read_gemma(body, tools, '<|"|>')


def read_function_gemma(body: str, tools: Sequence[Tool]) -> Found:
    """The older writing: other marks around strings."""
    return _read_gemma(body, tools, "<escape>")


def _is_cut_short(message: str) -> bool:
    return any(sign in message for sign in _CUT_SHORT)


def _python_call(node: ast.expr, tools: Sequence[Tool]) -> ParsedCall:
    if not isinstance(node, ast.Call):
        raise CallError("what stands in the list is no call")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise CallError("an argument has no name")
    name = _dotted(node.func)
    _check_unlike([keyword.arg for keyword in node.keywords])
    try:
        given = {str(item.arg): _literal(item.value) for item in node.keywords}
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise CallError("an argument is no literal") from None
    return make_call(name, given, tools)


def _dotted(node: ast.expr) -> str:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise CallError("the call names no function")
    return ".".join([node.id, *reversed(names)])


def _literal(node: ast.expr) -> Any:
    """The value of a literal; JSON's three words count as well. Raises ValueError."""
    for child in ast.walk(node):
        if isinstance(child, ast.Set | ast.Tuple):
            raise TypeError("no JSON value")
        if isinstance(child, ast.Dict):
            _check_unlike([getattr(key, "value", None) for key in child.keys])
    return ast.literal_eval(_JsonWords().visit(node))


def _check_unlike(names: Sequence[Any]) -> None:
    """Raises CallError unless these are names, each of them once."""
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise CallError("an object has two values of one name, or a name that is no string")


class _JsonWords(ast.NodeTransformer):
    """Nested values are rendered as JSON by some templates, so models write its words."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in _JSON_WORDS:
            return node
        return ast.copy_location(ast.Constant(_JSON_WORDS[node.id]), node)


def _read_gemma(body: str, tools: Sequence[Tool], quote: str) -> Found:
    at = skip_space(body, 0)
    calls: list[ParsedCall] = []
    while head := _HEAD.match(body, at):
        value, at = _Reader(body, quote).value(head.end(), 0)
        if not isinstance(value, dict):
            raise CallError("braces with arguments are missing behind the name", head.end())
        calls.append(make_call(head["name"], value, tools))
        at = skip_space(body, at)
    if not calls:
        kind = CallError if at < len(body) else CallUnfinishedError
        raise kind("the call does not begin as this model's calls do", at)
    return calls, at


class _Reader:
    """Values of Gemma's writing: `{key:value}`, `[value]`, quoted text, and bare JSON words."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """The value at `at`, and where it ends."""
        if depth > _DEEPEST:
            raise CallError("the arguments are nested too deeply", at)
        at = self._next(at)
        if self._text.startswith(self._quote, at):
            start = at + len(self._quote)
            end = self._text.find(self._quote, start)
            if end < 0:
                raise CallUnfinishedError("a string is not closed", at)
            return self._text[start:end], end + len(self._quote)
        if self._text[at] == '"':  # the strings of JSON, which models mix in
            return read_json(self._text, at)
        if self._text[at] == "{":
            return self._object(at + 1, depth)
        if self._text[at] == "[":
            return self._array(at + 1, depth)
        return self._word(at)

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while self._text[self._next(at)] != "}":
            key = self._key(at)
            if key[0] in found:
                raise CallError("an argument stands twice in the call", at)
            found[key[0]], at = self.value(key[1], depth + 1)
            at = self._behind(at, "}")
        return found, self._next(at) + 1

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        while self._text[self._next(at)] != "]":
            value, at = self.value(at, depth + 1)
            found.append(value)
            at = self._behind(at, "]")
        return found, self._next(at) + 1

    def _key(self, at: int) -> tuple[str, int]:
        at = self._next(at)
        if self._text.startswith((self._quote, '"'), at):
            value, at = self.value(at, 0)
            at = self._next(at)
            if self._text[at] != ":":
                raise CallError("a colon is missing behind a name", at)
            return str(value), at + 1
        found = _KEY.match(self._text, at)
        if found is None:
            is_cut = _BARE.fullmatch(self._text, at) is not None
            raise (CallUnfinishedError if is_cut else CallError)("an argument has no name", at)
        return found["key"], found.end()

    def _word(self, at: int) -> tuple[Any, int]:
        found = _BARE.match(self._text, at)
        word = found[0].strip() if found else ""
        end = found.end() if found else at
        if word in _JSON_WORDS:
            return _JSON_WORDS[word], end
        if _NUMBER.fullmatch(word):
            return read_json(word, 0)[0], end
        if end >= len(self._text):
            raise CallUnfinishedError("a value is not closed", at)
        if not word:
            raise CallError("a value is missing", at)
        return word, end

    def _behind(self, at: int, closing: str) -> int:
        """The position of the next item, or of `closing`."""
        at = self._next(at)
        if self._text[at] == ",":
            return at + 1
        if self._text[at] != closing:
            raise CallError("neither a comma nor the end follows a value", at)
        return at

    def _next(self, at: int) -> int:
        at = skip_space(self._text, at)
        if at >= len(self._text):
            raise CallUnfinishedError("the call is not closed", at)
        return at
