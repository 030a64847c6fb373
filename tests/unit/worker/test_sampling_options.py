"""What each option of sampling does to a draw, on probabilities that are known."""

import mlx.core as mx
import pytest

from hotseat.protocol.messages import Sampling
from hotseat.worker.batch.sampling import make_processors, make_sampler

CHANCES = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
DRAWS = 300


def drawn(**options):
    sampler = make_sampler(Sampling(**options), seed=7)
    return [int(sampler(CHANCES).item()) for _ in range(DRAWS)]


OPTIONS = {
    "no option": ({}, {0, 1, 2, 3}),
    "top_p": ({"top_p": 0.75}, {0, 1}),
    "top_k": ({"top_k": 3}, {0, 1, 2}),
    "min_p": ({"min_p": 0.25}, {0, 1, 2}),
    "all of them": ({"top_p": 0.9, "top_k": 2, "min_p": 0.01}, {0, 1}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option_leaves_the_tokens_it_says(name):
    options, left = OPTIONS[name]
    assert set(drawn(temperature=1.0, **options)) == left


def test_temperature_zero_takes_the_likeliest():
    assert set(drawn(temperature=0.0)) == {0}


def test_higher_temperature_draws_the_unlikely_more_often():
    assert drawn(temperature=3.0).count(3) > 2 * drawn(temperature=1.0).count(3)


PENALTIES = {
    "repetition": ({"repetition_penalty": 2.0}, [1.0, 2.0, 2.0, 1.0]),
    "presence": ({"presence_penalty": 0.5}, [1.5, 2.0, 2.0, 1.5]),
    "frequency": ({"frequency_penalty": 0.5}, [1.0, 2.0, 2.0, 1.5]),
    "bias": ({"logit_bias": ((2, -1.5),)}, [2.0, 2.0, 0.5, 2.0]),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_processor_changes_logits_of_what_was_said_before(name):
    options, expected = PENALTIES[name]
    logits = mx.full((1, 4), 2.0)
    for processor in make_processors(Sampling(**options), 4):
        logits = processor(mx.array([0, 3, 0]), logits)
    assert logits.tolist() == [expected]
