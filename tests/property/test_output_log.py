"""Output that is kept packed gives later readers what they would have got step by step."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.replies import ChunkPart, TokenLogprob
from hotseat.supervisor.requests.rules.output_log import BLOCK_STEPS, OutputLog
from hotseat.supervisor.requests.rules.streams import BUNDLE_STEPS, Emission, OutStream

KINDS = st.sampled_from(
    ["text", "text", "text", "joined", "silent", "tokenless", "logprob", "reasoning"]
)
OPENINGS = st.lists(st.tuples(st.integers(0, 3), KINDS), min_size=1, max_size=12)
REPEATS = st.integers(1, 60)


def emissions_of(steps):
    """Token ids count up, text names the step that said it."""
    made, offset, length = [], 0, 0
    for number, (count, kind) in enumerate(steps):
        tokens = () if kind == "tokenless" else tuple(range(offset, offset + count))
        text = "" if kind == "silent" else f"é{number};"
        logs = tuple(TokenLogprob(token=token, logprob=-1.0) for token in tokens)
        one = Emission(
            offset=offset,
            text_offset=length,
            tokens=tokens,
            text=text,
            logprobs=logs if kind == "logprob" else (),
            parts=(ChunkPart(type="reasoning", text=text),) if kind == "reasoning" else (),
            text_lengths=(1,) * (count - 1) + (len(text) - count + 1,)
            if kind == "joined" and count
            else (),
        )
        made.append(one)
        offset, length = offset + len(tokens), length + len(text)
    return made, offset


def log_of(emissions):
    log = OutputLog()
    for emission in emissions:
        log.append(emission)
    return log


def read(emissions, offset=0, credit=10**9):
    """Tokens, output and log probabilities that a reader from `offset` on gets."""
    stream = OutStream(credit, offset)
    for emission in emissions:
        stream.push(emission)
    tokens, said, logs = [], [], []
    while not stream.is_empty:
        chunk = stream.take(0.0)
        if chunk is None:
            stream.grant(50)
            continue
        tokens += chunk.tokens
        said += [(part.type, letter) for part in chunk.parts for letter in part.text]
        logs += chunk.logprobs
    return tokens, said, logs


@given(OPENINGS, REPEATS)
def test_log_gives_back_every_step_as_it_came(steps, repeats):
    emissions, _ = emissions_of(steps * repeats)
    log = log_of(emissions)
    assert list(log) == emissions
    assert len(log) == len(emissions)


@given(OPENINGS, REPEATS, st.data())
def test_late_reader_of_a_log_gets_what_it_would_get_step_by_step(steps, repeats, data):
    emissions, total = emissions_of(steps * repeats)
    offset = data.draw(st.integers(0, total))
    assert read(log_of(emissions).behind(offset), offset) == read(emissions, offset)


@given(OPENINGS, REPEATS, st.integers(1, 500))
def test_output_that_waits_packed_is_delivered_unchanged(steps, repeats, credit):
    emissions, _ = emissions_of(steps * repeats)
    tokens, said, logs = read(emissions, credit=credit)
    assert tokens == [token for one in emissions for token in one.tokens]
    assert "".join(letter for _, letter in said) == "".join(one.text for one in emissions)
    assert logs == [entry for one in emissions for entry in one.logprobs]


def test_blocks_and_bundles_are_reached_by_these_tests():
    assert max(BLOCK_STEPS, BUNDLE_STEPS) < 12 * 60
