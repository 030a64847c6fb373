"""Everything a request has put out, for readers that come later. Pure; knows no reader.

An object per step costs some 300 bytes a token, so older steps are kept as bytes, a block of them
at a time.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.protocol.parts import join_parts
from hotseat.protocol.replies import ChunkPart, TokenLogprob
from hotseat.supervisor.requests.rules.streams import Emission

BLOCK_STEPS: Final = 256
BLOCK_TOKENS: Final = 256
"""Steps are packed at either number: a step may have one token or a whole frame of them."""


class _LoggedStep(Struct, frozen=True, array_like=True):
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...]
    parts: tuple[ChunkPart, ...]
    text_lengths: tuple[int, ...]


class _Block(Struct, frozen=True):
    """Steps as bytes. `end`: completion tokens after the last of them."""

    offset: int
    text_offset: int
    end: int
    steps: bytes


_STEPS: Final[msgspec.msgpack.Decoder[list[_LoggedStep]]] = msgspec.msgpack.Decoder(
    list[_LoggedStep]
)


class OutputLog:
    """A list of emissions that only grows."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._last: list[Emission] = []
        self._last_tokens = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Emission]:
        for block in self._blocks:
            yield from _opened(block)
        yield from self._last

    def append(self, emission: Emission) -> None:
        """Adds a step."""
        self._last.append(emission)
        self._last_tokens += len(emission.tokens)
        self._count += 1
        if len(self._last) == BLOCK_STEPS or self._last_tokens >= BLOCK_TOKENS:
            self._blocks.append(_packed(self._last))
            self._last = []
            self._last_tokens = 0

    def behind(self, offset: int) -> Iterator[Emission]:
        """What a reader that has `offset` completion tokens may not have yet, in few emissions.

        The first ones may be known to it in part.
        """
        for block in self._blocks:
            if block.end < offset:
                continue
            steps = _opened(block)
            if block.offset > offset and not any(step.logprobs for step in steps):
                yield _merged(block, steps)
            else:
                yield from steps
        yield from self._last


def _packed(emissions: list[Emission]) -> _Block:
    steps = [
        _LoggedStep(one.tokens, one.text, one.logprobs, one.parts, one.text_lengths)
        for one in emissions
    ]
    first, last = emissions[0], emissions[-1]
    return _Block(
        offset=first.offset,
        text_offset=first.text_offset,
        end=last.offset + len(last.tokens),
        steps=msgspec.msgpack.encode(steps),
    )


def _opened(block: _Block) -> list[Emission]:
    offset, text_offset = block.offset, block.text_offset
    emissions = []
    for step in _STEPS.decode(block.steps):
        emissions.append(
            Emission(
                offset=offset,
                text_offset=text_offset,
                tokens=step.tokens,
                text=step.text,
                logprobs=step.logprobs,
                parts=step.parts,
                text_lengths=step.text_lengths,
            )
        )
        offset += len(step.tokens)
        text_offset += len(step.text)
    return emissions


def _merged(block: _Block, steps: list[Emission]) -> Emission:
    """One emission of many that a reader gets whole; log probabilities would be too many items."""
    parts: tuple[ChunkPart, ...] = ()
    if any(step.parts for step in steps):
        parts = join_parts(part for step in steps for part in step.all_parts)
    return Emission(
        offset=block.offset,
        text_offset=block.text_offset,
        tokens=tuple(token for step in steps for token in step.tokens),
        text="".join(step.text for step in steps),
        parts=parts,
    )
