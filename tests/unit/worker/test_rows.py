"""What a row draws is its own business, whatever its neighbours ask for."""

from types import SimpleNamespace

import mlx.core as mx
import pytest

from hotseat.protocol.messages import Sampling
from hotseat.worker.batch.rows import Arrival, DecodingRows
from hotseat.worker.batch.sampling import make_processors, make_sampler

VOCAB = 2048
SEEDS = range(40)


def turn(logprobs=0, **sampling):
    chosen = Sampling(**sampling)
    return SimpleNamespace(
        start=SimpleNamespace(logprobs=logprobs),
        sampler=make_sampler(chosen, seed=3, position=0),
        processors=make_processors(chosen, VOCAB),
        ids=[1, 2, 3],
    )


def flat_logits(seed):
    """Half precision, close together: many of their log probabilities are equal after rounding."""
    drawn = mx.random.normal((VOCAB,), key=mx.random.key(seed)) * 0.5
    return drawn.astype(mx.bfloat16)


def drawn_first(row_logits, turns):
    """What the first row draws."""

    def model(tokens, cache):
        return mx.broadcast_to(row_logits[None, None], (tokens.shape[0], 1, VOCAB))

    rows = DecodingRows.none(model)
    rows.join([Arrival(one, [], 3) for one in turns])
    rows.step()
    return rows.pending(turns[0])


@pytest.mark.parametrize(
    "neighbour",
    [
        {"repetition_penalty": 1.3},
        {"temperature": 0.8},
        {"logprobs": 2},
        {"logit_bias": ((5, 2.0),)},
    ],
)
def test_greedy_row_draws_beside_any_neighbour_what_it_draws_alone(neighbour):
    for seed in SEEDS:
        logits = flat_logits(seed)
        token, _ = drawn_first(logits, [turn()])
        beside, _ = drawn_first(logits, [turn(), turn(**neighbour)])
        assert beside == token == int(mx.argmax(logits))


def test_log_probabilities_are_kept_for_the_row_that_asks():
    logits = flat_logits(1)
    token, logprobs = drawn_first(logits, [turn(logprobs=1), turn()])
    wanted = logits - mx.logsumexp(logits, keepdims=True)
    assert mx.array_equal(logprobs, wanted)
    assert drawn_first(logits, [turn(), turn(logprobs=1)])[1] is None
    assert token == int(mx.argmax(logits))


def test_processors_of_a_row_change_its_own_draw_alone():
    logits = flat_logits(1)
    best = int(mx.argmax(logits))
    forbidding = turn(logit_bias=((best, -1000.0),))
    assert drawn_first(logits, [forbidding, turn()])[0] != best
    assert drawn_first(logits, [turn(), forbidding])[0] == best
