"""Keeps the text of control tokens in content apart from the tokens that a template writes.

What clients send (texts, names, arguments, tools) never becomes an id that steers the model, also
where it spells one. Must not know what messages mean, only strings within plain data.
"""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

from tokenizers import Tokenizer

from hotseat.protocol.errors import HotseatError
from hotseat.worker.text.calls.formats import call_format

_PRIVATE: Final = range(0xE000, 0xF900)
"""Characters that mean nothing to anybody: marks that stand in rendered text for a moment."""
_NONCE_LETTERS: Final = 4
_FIXED_WORDS: Final = ("system", "user", "assistant", "tool", "function")
"""Roles and types: not what a client wrote."""
_SURE: Final = 2
"""Letters of a control token that nobody writes at the end of a text by chance."""


class OwnWords(str):
    """Text of the model, or of whoever set it up: its marks of reasoning and of calls count.

    Those are the tokens that mlx-lm knows as marks, and control tokens that are not special.
    """

    __slots__ = ()


class ContentTokens:
    """The control tokens of a tokenizer: special ones, and those that the template writes.

    Other added tokens are pieces of text, such as runs of line breaks, and stay what they are.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._nonce = "".join(
            chr(_PRIVATE.start + secrets.randbelow(len(_PRIVATE))) for _ in range(_NONCE_LETTERS)
        )
        """Stands before the tokens of the template; nobody who writes content can guess it."""

    def gap_for(self, data: Any) -> str:
        """A mark to break control tokens in `data` with; empty if nothing has to be broken.

        Raises `HotseatError` if there is none that `data` does not hold.
        """
        if not any(map(self._is_suspect, content_strings(data))):
            return ""
        held = self._template + "\n".join(content_strings(data))
        gaps = (chr(code) for code in _PRIVATE)
        gap = next((one for one in gaps if one not in held and _escaped(one) not in held), None)
        if gap is None or self._twin is None:
            raise HotseatError(
                "unsupported_content",
                "messages: they hold the text of a special token of the model, which its "
                "tokenizer cannot take as text; take it out",
                message=None,
                part=None,
                type="special token",
            )
        return gap

    def broken(self, data: Any, gap: str) -> Any:
        """`data` with `gap` in everything that is, begins or ends a control token."""
        if isinstance(data, str):
            return self._break(data, gap)
        if isinstance(data, dict):
            return {self.broken(key, gap): self.broken(value, gap) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.broken(value, gap) for value in data]
        return data

    def encode(self, rendered: str, gap: str) -> list[int]:
        """Ids of rendered text: what is whole in it is a token, what a gap breaks is text."""
        assert self._twin is not None  # noqa: S101 - `gap_for` refused
        marks = re.compile(f"{gap}|{re.escape(_escaped(gap))}|({self._found.pattern})")
        text = marks.sub(lambda found: self._nonce + found[1] if found[1] else "", rendered)
        return [int(token) for token in self._twin.encode(text, add_special_tokens=False).ids]

    @cached_property
    def _controls(self) -> tuple[str, ...]:
        """Longest first: a token counts before those that it contains."""
        added = self._tokenizer.added_tokens_decoder.values()
        marks = self._marks
        texts = {
            str(token.content)
            for token in added
            if not str(token.content).isspace()
            and (token.special or token.content in self._template or token.content in marks)
        }
        return tuple(sorted(texts - {""}, key=lambda text: (-len(text), text)))

    @cached_property
    def _marks(self) -> str:
        """Marks of reasoning and of calls."""
        tokenizer = self._tokenizer
        names = (tokenizer.think_start, tokenizer.think_end)
        calls = call_format(tokenizer)
        ends = () if calls is None else (calls.start, calls.end)
        return "\n".join(mark for mark in (*names, *ends) if mark)

    @cached_property
    def _found(self) -> re.Pattern[str]:
        return re.compile(_one_of(self._controls))

    @cached_property
    def _found_in_own_words(self) -> re.Pattern[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        special = {str(token.content) for token in added if token.special}
        steering = [text for text in self._controls if text in special]
        return re.compile(_one_of([text for text in steering if text not in self._marks]))

    @cached_property
    def _heads(self) -> frozenset[str]:
        return frozenset(text[:end] for text in self._controls for end in range(1, len(text)))

    @cached_property
    def _longest_head(self) -> int:
        return max(map(len, self._heads), default=0)

    @cached_property
    def _tails(self) -> frozenset[str]:
        """All but the first letter: a template may write that one, as in `<{{ name }}>`."""
        return frozenset(text[1:] for text in self._controls if len(text) > _SURE)

    @cached_property
    def _tail_lengths(self) -> tuple[int, ...]:
        return tuple({len(tail) for tail in self._tails})

    @cached_property
    def _cores(self) -> frozenset[str]:
        """All but the brackets, but for words by which the template itself calls something."""
        said = {*_FIXED_WORDS, *re.findall(r"\w+", self._found.sub(" ", self._template))}
        return frozenset(text[1:-1] for text in self._controls if len(text) > _SURE) - said

    @cached_property
    def _twin(self) -> Tokenizer | None:
        """The tokenizer with the nonce before each control token: without it they are text.

        None if it would encode anything else otherwise.
        """
        original = getattr(self._tokenizer, "backend_tokenizer", None)
        if not isinstance(original, Tokenizer) or not self._controls:
            return None
        quoted = {_quoted(text): _quoted(self._nonce + text) for text in self._controls}
        named = re.compile(_one_of(list(quoted)))
        twin = Tokenizer.from_str(named.sub(lambda found: quoted[found[0]], original.to_str()))
        twin.no_padding()
        twin.no_truncation()
        sample = "".join(f"a{text} b{text}\n{text}" for text in self._controls)
        marked = self._found.sub(lambda found: self._nonce + found[0], sample)
        expected = original.encode(sample, add_special_tokens=False).ids
        return twin if twin.encode(marked, add_special_tokens=False).ids == expected else None

    def _is_suspect(self, text: str) -> bool:
        return (
            self._pattern_for(text).search(text) is not None
            or self._starts_inside(text)
            or self._head_length(text) >= _SURE
        )

    def _pattern_for(self, text: str) -> re.Pattern[str]:
        return self._found_in_own_words if isinstance(text, OwnWords) else self._found

    def _starts_inside(self, text: str) -> bool:
        """True if a single letter before the text, or around it, makes a control token."""
        heads = (text[:length] for length in self._tail_lengths)
        return text in self._cores or any(head in self._tails for head in heads)

    def _head_length(self, text: str) -> int:
        """Letters at the end of the text with which a control token begins."""
        lengths = range(min(len(text), self._longest_head), 0, -1)
        return next((length for length in lengths if text[-length:] in self._heads), 0)

    def _break(self, text: str, gap: str) -> str:
        pattern = self._pattern_for(text)
        lead = gap if self._starts_inside(text) else ""
        head = self._head_length(text)
        if head:
            at = len(text) - head + 1
            text = text[:at] + gap + text[at:]
        return lead + pattern.sub(lambda found: found[0][0] + gap + found[0][1:], text)


def _one_of(texts: Sequence[str]) -> str:
    """An expression for any of the texts, the longest that fits; what they share is read once."""
    rests: dict[str, list[str]] = {}
    for text in texts:
        if text:
            rests.setdefault(text[0], []).append(text[1:])
    if not rests:
        return "" if texts else "(?!)"
    branches = "|".join(re.escape(first) + _one_of(rest) for first, rest in rests.items())
    return f"(?:{branches})" + ("?" if "" in texts else "")


def content_strings(data: Any) -> Iterator[str]:
    """All strings in plain data, keys too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from content_strings(key)
            yield from content_strings(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from content_strings(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """As a template writes it that has JSON in ASCII."""
    return json.dumps(text)[1:-1]
