"""Reasoning, calls and text of one completion in Harmony, the messages of gpt-oss.

An answer is one or several messages `<|start|>assistant to=WHOM<|channel|>NAME<|message|>TEXT` with
an end mark behind each; the prompt has written the first `<|start|>assistant`. The channel
`analysis` is reasoning, a message to a function is a call, everything else is text. Must not know
tokens.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Tool
from hotseat.protocol.parts import join_parts, text_part
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.text.calls.call import Found, make_call, skip_space
from hotseat.worker.text.calls.json_form import read_json
from hotseat.worker.text.calls.reading import BodySearch, CallsOut
from hotseat.worker.text.text_out import first_of, pending_length

START_MARK: Final = "<|start|>"
CHANNEL_MARK: Final = "<|channel|>"
_MESSAGE: Final = "<|message|>"
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
_IN_HEADER: Final = (_MESSAGE, *_ENDS)
_IN_TEXT: Final = (START_MARK, CHANNEL_MARK, *_ENDS)
_CONSTRAIN: Final = "<|constrain|>"
_IN_LEAD: Final = (*_IN_TEXT, _CONSTRAIN, _MESSAGE)
_LONGEST_HEADER: Final = 256
"""Characters before its end mark; what goes on longer is no header."""
_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_LEAD: Final = re.compile(r"\s*(t|to|to=[^\s<]*\s*)?\Z")
"""What may stand before the first channel: whom the message is for."""
_HEADER_WORDS: Final = re.compile(
    r"<\|(?:start|channel|constrain)\|>\s*\w*|\bto=[^\s<]*|\b(?:json|code)\b|<[|\w]*\Z|\s+"
)

_State = Literal["lead", "header", "reasoning", "text"]


class Channels:
    """Splits one completion. A message to anybody but a function of `tools` is text."""

    def __init__(self, request: RequestKey, tools: Sequence[Tool]) -> None:
        self._tools = tools
        self._state: _State = "lead"
        self._held = ""
        self._header = ""
        self._search: BodySearch | None = None
        self._found: list[ChunkPart] = []
        self._out = CallsOut(request)

    @property
    def calls(self) -> int:
        """Tool calls found so far."""
        return self._out.count

    @property
    def is_reasoning(self) -> bool:
        """True while what comes next is reasoning."""
        return self._state == "reasoning"

    def push(self, text: str) -> tuple[ChunkPart, ...]:
        """Parts that `text` completes."""
        self._held += text
        return self._run(is_over=False)

    def close(self) -> tuple[ChunkPart, ...]:
        """What was held back, and an unfinished call; a header that was cut short is nothing."""
        return self._run(is_over=True)

    def _run(self, *, is_over: bool) -> tuple[ChunkPart, ...]:
        while self._step(is_over=is_over):
            pass
        found, self._found = join_parts(self._found), []
        return found

    def _step(self, *, is_over: bool) -> bool:
        """Takes one piece of what is held; False if the rest has to wait."""
        if self._search is not None:
            return self._call(self._search, is_over=is_over)
        if self._state == "lead":
            return self._lead(is_over=is_over)
        if self._state == "header":
            return self._head(is_over=is_over)
        return self._words(is_over=is_over)

    def _lead(self, *, is_over: bool) -> bool:
        mark = first_of(self._held, _IN_LEAD)
        before = self._held[: mark[0]] if mark else self._held
        kept = pending_length(before, _IN_LEAD) if mark is None else 0
        lead = before[: len(before) - kept]
        if len(lead) > _LONGEST_HEADER or _LEAD.match(lead) is None:
            self._state = "text"
            return True
        if mark is None:
            self._state = "text" if is_over else "lead"
            return is_over
        self._state = "text" if mark[1] in _ENDS else "header"
        return True

    def _head(self, *, is_over: bool) -> bool:
        mark = first_of(self._held, _IN_HEADER)
        at, word = mark or (len(self._held), "")
        if at > _LONGEST_HEADER and (mark or is_over or at > _LONGEST_HEADER + len(_MESSAGE)):
            self._state = "text"
            self._emit(self._held[:_LONGEST_HEADER])
            self._held = self._held[_LONGEST_HEADER:]
            return True
        if mark is None and not is_over:
            return False
        header = self._held[:at]
        self._held = self._held[at + len(word) :]
        whom = _RECIPIENT.search(header)
        channel = _CHANNEL.search(header)
        is_thought = channel is not None and channel[1] == "analysis"
        self._state = "reasoning" if is_thought else "text"
        if word != _MESSAGE:
            if _HEADER_WORDS.sub("", header):
                self._emit(header)  # the model left out the mark that ends a header
            self._state = "text"
        elif whom and self._is_function(whom[1]):
            self._state, self._header = "text", header + word
            read = partial(_read_call, whom[1].removeprefix("functions."))
            self._search = BodySearch(read, self._tools, (*_ENDS, START_MARK))
        return True

    def _words(self, *, is_over: bool) -> bool:
        mark = first_of(self._held, _IN_TEXT)
        if mark is None:
            kept = 0 if is_over else pending_length(self._held, _IN_TEXT)
            cut = len(self._held) - kept
            self._emit(self._held[:cut])
            self._held = self._held[cut:]
            return False
        at, word = mark
        self._emit(self._held[:at])
        begins = word in (START_MARK, CHANNEL_MARK)
        # A header keeps its mark: it tells the channel from what stands before it.
        self._held = self._held[at:] if begins else self._held[at + len(word) :]
        self._state = "header" if begins else "text"
        return True

    def _call(self, search: BodySearch, *, is_over: bool) -> bool:
        body = search.find(self._held)
        if body is None and is_over:
            body = search.finish(self._held, ends_itself=True)
        if body is None:
            return False
        self._held = self._held[len(body.text) :]
        if body.mark != START_MARK:
            self._held = self._held[len(body.mark) :]
        self._found.extend(self._out.parts(body, self._header, in_reasoning=False))
        self._search = None
        return True

    def _is_function(self, whom: str) -> bool:
        names = {tool.function.name for tool in self._tools}
        return bool(names) and (whom.startswith("functions.") or whom in names)

    def _emit(self, text: str) -> None:
        if text and self._state == "reasoning":
            self._found.append(ChunkPart(type="reasoning", text=text))
        else:
            self._found.extend(text_part(text))


def _read_call(name: str, body: str, tools: Sequence[Tool]) -> Found:
    """The one call of a message: its body is JSON of the arguments, or nothing."""
    at = skip_space(body, 0)
    if at >= len(body):
        return [make_call(name, None, tools)], at
    value, at = read_json(body, at)
    return [make_call(name, value, tools)], skip_space(body, at)
