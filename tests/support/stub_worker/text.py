"""Tokenizer and "model" of the stub: reproducible ids and text that maps back to them.

Prompt text is one id per UTF-8 byte. A sampled id t (>= 256) reads as " wT", and " wT" in a
prompt is that id again, so that a rendered history has the ids that were sampled.
"""

import hashlib
import re
from collections.abc import Sequence

from hotseat.protocol.messages import Message
from hotseat.protocol.tokens import pack_tokens

END_OF_TURN = 2
_FIRST_WORD = 256
_WORD = re.compile(r"( w\d+)")


def encode_text(text: str) -> list[int]:
    ids: list[int] = []
    for piece in _WORD.split(text):
        if _WORD.fullmatch(piece):
            ids.append(int(piece[2:]))
        else:
            ids.extend(piece.encode())
    return ids


def decode_token(token: int) -> str:
    return f" w{token}" if token >= _FIRST_WORD else chr(token)


def render_messages(messages: Sequence[Message]) -> list[int]:
    """Ids of the messages and the generation prompt; an assistant turn ends as a sampled one."""
    ids: list[int] = []
    for message in messages:
        if message.role == "assistant":
            ids += [*_assistant_opening(), *encode_text(_content(message)), END_OF_TURN]
        else:
            ids += encode_text(f"[{message.role}]{_content(message)}\n")
    return ids + _assistant_opening()


def append_messages(context: Sequence[int], messages: Sequence[Message]) -> list[int]:
    """Ids to feed after `context`: closes an open turn first."""
    closing = [] if not context or context[-1] == END_OF_TURN else [END_OF_TURN]
    return closing + render_messages(messages)


class TokenSource:
    """The next id depends on the tag and every id before it, as greedy decoding does."""

    def __init__(self, tag: str, ids: Sequence[int]) -> None:
        self._digest = hashlib.blake2b(tag.encode() + pack_tokens(ids), digest_size=8)

    def draw(self, vocab_size: int) -> int:
        return _FIRST_WORD + int.from_bytes(self._digest.digest()) % max(1, vocab_size - 256)

    def feed(self, token: int) -> None:
        self._digest.update(pack_tokens([token]))


def expected_tokens(tag: str, ids: Sequence[int], count: int, vocab_size: int) -> list[int]:
    """What the stub answers to `ids`; for tests."""
    source = TokenSource(tag, ids)
    tokens = []
    for _ in range(count):
        tokens.append(source.draw(vocab_size))
        source.feed(tokens[-1])
    return tokens


def _assistant_opening() -> list[int]:
    return encode_text("[assistant]")


def _content(message: Message) -> str:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content)
