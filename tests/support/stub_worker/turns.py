"""State of one request in the stub, and the prompt it stands for."""

import time
from typing import Literal, assert_never

from hotseat.protocol.link_orders import AppendInput, Start, TextInput, TokensInput, WholeInput
from hotseat.protocol.tokens import unpack_tokens
from tests.support.stub_worker.text import (
    TokenSource,
    append_messages,
    decode_token,
    encode_text,
    render_messages,
)


class Turn:
    """One request that was not refused."""

    def __init__(self, start: Start, tag: str, prompt: list[int], *, rendered: bool) -> None:
        self.start = start
        self.prompt = prompt
        self.rendered = rendered
        self.ids = list(prompt)
        self.source = TokenSource(tag, prompt)
        self.fed = 0
        self.state: Literal["lookup", "prefill", "decode"] = "lookup"
        self.emitted = 0
        self.text = ""
        self.began_at = time.monotonic()
        self.ttft_s = 0.0

    def go_on(self, emitted: list[int]) -> None:
        """As if these had just been emitted."""
        for token in emitted:
            self.source.feed(token)
        self.ids += emitted
        self.emitted = len(emitted)
        self.text = "".join(decode_token(token) for token in emitted)


def build_prompt(start: Start) -> tuple[list[int], bool]:
    """All ids of the request, and whether the whole history was rendered."""
    context = unpack_tokens(start.context)
    match start.input:
        case WholeInput(messages=messages):
            return render_messages(messages), True
        case AppendInput(messages=messages):
            return context + append_messages(context, messages), False
        case TextInput(text=text):
            return context + encode_text(text), False
        case TokensInput(tokens=tokens):
            return context + unpack_tokens(tokens), False
        case _:
            assert_never(start.input)


def common_prefix(left: list[int], right: list[int]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    found = [text.find(stop) for stop in stops if stop in text]
    return min(found) if found else None
