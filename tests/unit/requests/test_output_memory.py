"""Output that waits or is kept weighs about what its bytes do, however it was framed."""

import tracemalloc

import pytest

from hotseat.supervisor.requests.rules.output_log import OutputLog
from hotseat.supervisor.requests.rules.streams import Emission, OutStream

TOKENS = 40_000
WORD = " word"
BYTES_A_TOKEN = 24
"""Packed id, text and its length, and as much again for their containers."""


def frames(size):
    """Output of `TOKENS` tokens, `size` of them a frame."""
    for offset in range(0, TOKENS, size):
        yield Emission(
            offset=offset,
            text_offset=offset * len(WORD),
            tokens=tuple(range(100_000 + offset, 100_000 + offset + size)),
            text=WORD * size,
            text_lengths=(len(WORD),) * size if size > 1 else (),
        )


def waiting():
    """A reader without credit."""
    return OutStream(0).push


def kept():
    """For readers that come later."""
    return OutputLog().append


@pytest.mark.parametrize("size", [1, 16, 200])
@pytest.mark.parametrize("where", [waiting, kept])
def test_output_costs_no_object_per_token_in_frames_of_any_size(where, size):
    add = where()
    tracemalloc.start()
    try:
        for emission in frames(size):
            add(emission)
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < BYTES_A_TOKEN * TOKENS


@pytest.mark.parametrize("size", [1, 16, 200])
def test_readers_that_come_one_by_one_and_wait_share_what_they_wait_for(size):
    log, readers = OutputLog(), [OutStream(0) for _ in range(8)]
    tracemalloc.start()
    try:
        for number, emission in enumerate(frames(size)):
            log.append(emission)
            if number < len(readers):
                for missed in log.behind(0):
                    readers[number].push(missed)
            for reader in readers[:number]:
                reader.push(emission)
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2.5 * BYTES_A_TOKEN * TOKENS
