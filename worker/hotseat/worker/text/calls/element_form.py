"""Calls written as elements: a name, and an element of bare text for each argument.

The text of an argument has no escapes. It ends at the end of its element that the next argument or
the end of the call follows, so that a value may hold the mark that would end it. Must not know
streams.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.messages import Tool
from hotseat.worker.text.calls.call import (
    CallError,
    CallNotBegunError,
    CallUnfinishedError,
    Found,
    ParsedCall,
    make_call,
    schema_of,
    skip_space,
)
from hotseat.worker.text.calls.json_form import read_json, read_objects
from hotseat.worker.text.calls.values import (
    MismatchError,
    names_of_arguments,
    schema_of_argument,
    value_of_text,
)

_CDATA: Final = re.compile(r"\s*<!\[CDATA\[((?:(?!\]\]>).)*)\]\]>\s*\Z", re.DOTALL)
_CDATA_OPEN: Final = re.compile(r"\s*<!\[CDATA\[")
_STRING: Final = {"type": "string"}


class ElementForm(Struct, frozen=True, kw_only=True):
    """How a model writes elements. `opening` has a group `name`; it may match without a mark.

    `argument` has a group `key` and maybe `type`. `closing` is empty where the mark that ends the
    call ends its last argument too. `has_lines`: a value stands between two line ends of its own.
    """

    opening: re.Pattern[str]
    closing: str = ""
    argument: re.Pattern[str]
    argument_end: str
    has_lines: bool = False
    has_cdata: bool = False
    """A value may stand in a CDATA section, which is no part of it."""
    whole: re.Pattern[str] | None = None
    """Opens one JSON object in place of the arguments; closed as they are."""
    whole_end: str = ""

    def read(self, body: str, tools: Sequence[Tool]) -> Found:
        """Calls at the beginning of a body. Raises CallError."""
        at = skip_space(body, 0)
        if body.startswith("{", at):
            return read_objects(body, tools)
        calls: list[ParsedCall] = []
        while opening := self.opening.match(body, at):
            call, at = self._call(body, opening, tools)
            calls.append(call)
            at = skip_space(body, at)
            if not self.closing:
                break
        if not calls:
            kind = CallNotBegunError if at < len(body) else CallUnfinishedError
            raise kind("the call does not begin as this model's calls do", at)
        return calls, at

    def _call(
        self, body: str, opening: re.Match[str], tools: Sequence[Tool]
    ) -> tuple[ParsedCall, int]:
        name = opening["name"].strip()
        schema = schema_of(name, tools)
        known = names_of_arguments(schema, schema)
        arguments: dict[str, Any] = {}
        at = skip_space(body, opening.end())
        if self.whole and (found := self.whole.match(body, at)):
            value, at = read_json(body, found.end())
            return make_call(name, value, tools), self._expect_end(body, at, self.whole_end)
        while not self._is_closed(body, at):
            element = self.argument.match(body, at)
            if element is None:
                wrong = CallError if arguments else CallNotBegunError
                kind = wrong if at < len(body) else CallUnfinishedError
                raise kind("neither an argument nor the end of the call follows", at)
            key = element["key"].strip()
            if key in arguments:
                raise CallError("an argument stands twice in the call", at)
            end = self._end_of_value(body, element.end(), known, {*arguments, key})
            text = self._value_text(body[element.end() : end])
            try:
                arguments[key] = _typed(text, key, schema, element.groupdict().get("type"))
            except MismatchError as error:
                raise CallError(str(error), at) from error
            at = skip_space(body, end + len(self.argument_end))
        if not (arguments or self.closing or any(tool.function.name == name for tool in tools)):
            raise CallNotBegunError("a word alone is no call of a tool that was given")
        return make_call(name, arguments, tools), at + len(self.closing)

    def _expect_end(self, body: str, at: int, ending: str) -> int:
        at = skip_space(body, at)
        for mark in (ending, self.closing):
            if not body.startswith(mark, at):
                kind = CallError if at < len(body) else CallUnfinishedError
                raise kind("something stands behind the arguments", at)
            at = skip_space(body, at + len(mark))
        return at

    def _end_of_value(self, body: str, start: int, known: frozenset[str], seen: set[str]) -> int:
        section = _CDATA_OPEN.match(body, start) if self.has_cdata else None
        first = body.find("]]>", section.end()) if section else start
        end = body.find(self.argument_end, first) if first >= 0 else first
        while end >= 0:
            after = skip_space(body, end + len(self.argument_end))
            if self._closes(body, after) or self._opens(body, after, known, seen):
                self._check_closed(body, start, end, known - seen)
                return end
            end = body.find(self.argument_end, end + 1)
        raise CallUnfinishedError("an argument is not closed", start)

    def _check_closed(self, body: str, start: int, end: int, awaited: frozenset[str]) -> None:
        """Raises CallError if an argument that is still to come begins a line of this value."""
        for found in self.argument.finditer(body, start, end):
            if found["key"].strip() in awaited and body[start : found.start()].endswith("\n"):
                raise CallError("an argument begins inside another one", found.start())

    def _is_closed(self, body: str, at: int) -> bool:
        return body.startswith(self.closing, at) if self.closing else at >= len(body)

    def _closes(self, body: str, at: int) -> bool:
        """True if the call ends at `at` and another one, or nothing, follows."""
        if not self._is_closed(body, at):
            return False
        behind = skip_space(body, at + len(self.closing))
        return behind >= len(body) or bool(self.opening.match(body, behind))

    def _opens(self, body: str, at: int, known: frozenset[str], seen: set[str]) -> bool:
        """True if an argument begins at `at` that the tool has and that has not come yet."""
        element = self.argument.match(body, at)
        if element is None:
            return False
        key = element["key"].strip()
        if key in seen and key in known:
            raise CallError("an argument stands twice in the call", at)
        return key not in seen and (not known or key in known)

    def _value_text(self, text: str) -> str:
        if self.has_cdata and (cdata := _CDATA.match(text)):
            return cdata[1]
        if self.has_lines:
            return text.removeprefix("\n").removesuffix("\n")
        return text


def _typed(text: str, key: str, schema: dict[str, Any], stated: str | None) -> Any:
    kind = schema_of_argument(schema, schema, key)
    if kind is None and stated == "string":
        kind = _STRING
    return value_of_text(text, kind, schema, key)


CODER: Final = ElementForm(
    opening=re.compile(r"<function=(?P<name>[^\s<>]+)\s*>"),
    closing="</function>",
    argument=re.compile(r"<parameter=(?P<key>[^<>\n]+)>"),
    argument_end="</parameter>",
    has_lines=True,
)
MINIMAX: Final = ElementForm(
    opening=re.compile(r"<invoke name=[\"']?(?P<name>[^\"'<>]+)[\"']?>"),
    closing="</invoke>",
    argument=re.compile(r"<parameter name=[\"']?(?P<key>[^\"'<>]+)[\"']?>"),
    argument_end="</parameter>",
)
MUSE: Final = ElementForm(
    opening=re.compile(r"<atem:invoke\b[^>]{0,99}?\bname=\"(?P<name>[^\"]{1,256})\"[^>]{0,99}>"),
    closing="</atem:invoke>",
    argument=re.compile(r"<atem:parameter\b[^>]{0,99}?\bname=\"(?P<key>[^\"]{1,256})\"[^>]{0,99}>"),
    argument_end="</atem:parameter>",
)
MINICPM: Final = ElementForm(
    opening=re.compile(r"\s*[\"']?(?P<name>[^\s\"'<>]+)[\"']?\s*>"),
    argument=re.compile(r"<param\s+name\s*=\s*[\"']?(?P<key>[^\s\"'<>]+)[\"']?\s*>"),
    argument_end="</param>",
    has_cdata=True,
)
GLM: Final = ElementForm(
    opening=re.compile(r"(?P<name>[^\s<>{}\[\]\"'`]+)(?=\s*(?:<arg_key>|\Z))"),
    argument=re.compile(r"<arg_key>(?P<key>[^<]*)</arg_key>\s*<arg_value>"),
    argument_end="</arg_value>",
)
LONGCAT: Final = ElementForm(
    opening=re.compile(r"(?P<name>[^\s<>{}\[\]\"'`]+)(?=\s*(?:<longcat_arg_key>|\Z))"),
    argument=re.compile(r"<longcat_arg_key>(?P<key>[^<]*)</longcat_arg_key>\s*<longcat_arg_value>"),
    argument_end="</longcat_arg_value>",
)
KIMI_K3: Final = ElementForm(
    opening=re.compile(
        r"<\|open\|>call\b[^<]{0,99}?\btool=\"(?P<name>[^\"]{1,256})\"[^<]{0,99}<\|sep\|>"
    ),
    closing="<|close|>call<|sep|>",
    argument=re.compile(
        r"<\|open\|>argument\b(?=[^<]{0,199}?\bkey=\"(?P<key>[^\"]{1,256})\")"
        r"(?=(?:[^<]{0,199}?\btype=\"(?P<type>[^\"]{1,99})\")?)[^<]{0,399}<\|sep\|>"
    ),
    argument_end="<|close|>argument<|sep|>",
    whole=re.compile(r"<\|open\|>json\b[^<]*<\|sep\|>"),
    whole_end="<|close|>json<|sep|>",
)
