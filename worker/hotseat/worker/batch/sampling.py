"""How the next token is drawn: mlx-lm's filters, then a draw with a key of our own.

The key depends on (seed, position) alone, so a request that is resumed, or sits in another batch,
draws the same. Must not know requests or text.
"""

import binascii
from collections.abc import Callable
from typing import Any, Final

import mlx.core as mx
from mlx_lm.sample_utils import (
    apply_min_p,
    apply_top_k,
    apply_top_p,
    greedy_sampler,
    make_logits_processors,
)
from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sampling
from hotseat.protocol.replies import TokenLogprob

Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]

MIN_TEMPERATURE: Final = 1e-3
"""Below this a draw is greedy: dividing by less overflows without changing the choice."""
_MASK: Final = 2**64 - 1


def draw_key(seed: int, position: int) -> int:
    """64 bits for the draw of completion token `position`.

    Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood 2014) over seed and position:
    neighbouring seeds and positions give unrelated keys.
    """
    return _mix((_mix(seed & _MASK) + position) & _MASK)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class KeyedSampler:
    """Draws for one request; each call is one completion position further.

    Takes log probabilities `(1, vocab)`, returns token ids `(1,)`.
    """

    def __init__(self, sampling: Sampling, seed: int, position: int = 0) -> None:
        self._sampling = sampling
        self._seed = seed
        self._position = position

    def __call__(self, logprobs: mx.array) -> mx.array:
        """The next draw."""
        key = mx.random.key(draw_key(self._seed, self._position))
        self._position += 1
        chosen = self._sampling
        logprobs = logprobs.astype(mx.float32)
        if chosen.top_p and chosen.top_p < 1.0:
            logprobs = apply_top_p(logprobs, chosen.top_p)
        if chosen.min_p:
            logprobs = apply_min_p(logprobs, chosen.min_p)
        if chosen.top_k and chosen.top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, chosen.top_k)
        return mx.random.categorical(logprobs * (1.0 / (chosen.temperature or 1.0)), key=key)


def make_sampler(sampling: Sampling, seed: int, position: int = 0) -> Sampler:
    """The sampler of a request; greedy ones share one object, by which they are known."""
    if (sampling.temperature or 0.0) < MIN_TEMPERATURE:
        greedy: Sampler = greedy_sampler
        return greedy
    return KeyedSampler(sampling, seed, position)


def make_processors(sampling: Sampling, vocab_size: int) -> list[LogitsProcessor]:
    """Bias and penalties, which mlx-lm applies over the last 20 tokens, prompt included.

    Raises `HotseatError` (invalid_request) for a bias on a token outside the vocabulary.
    """
    for token, _bias in sampling.logit_bias:
        if token >= vocab_size:
            raise HotseatError(
                "invalid_request",
                f"sampling.logit_bias: token {token} is outside the vocabulary of {vocab_size}",
                token=token,
                vocab_size=vocab_size,
            )
    made: list[LogitsProcessor] = make_logits_processors(
        logit_bias=dict(sampling.logit_bias) or None,
        repetition_penalty=sampling.repetition_penalty or None,
        presence_penalty=sampling.presence_penalty or None,
        frequency_penalty=sampling.frequency_penalty or None,
    )
    return made


def top_logprobs(token: int, logprobs: Any, count: int) -> TokenLogprob:
    """Log probability of `token` and of the `count` likeliest; `logprobs` is `(vocab,)`."""
    row = logprobs.astype(mx.float32)
    count = min(count, row.shape[-1])
    likeliest = mx.argpartition(-row, kth=count - 1)[:count]
    values = row[likeliest]
    own = row[token]
    mx.eval(likeliest, values, own)
    numbers: Any = values.tolist()
    ids: Any = likeliest.tolist()
    pairs = sorted(zip(ids, numbers, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return TokenLogprob(
        token=token,
        logprob=_finite(own.item()),
        top=tuple((int(index), _finite(value)) for index, value in pairs),
    )


def with_texts(entry: TokenLogprob, bytes_of: Callable[[int], bytes]) -> TokenLogprob:
    """The same with what each token stands for, in base64."""

    def text(token: int) -> str:
        return binascii.b2a_base64(bytes_of(token), newline=False).decode()

    texts = tuple(text(token) for token, _ in entry.top)
    return structs.replace(entry, text=text(entry.token), top_texts=texts)


def _finite(value: Any) -> float:
    """JSON has no infinities: a token that a bias forbids counts as -1e30."""
    return max(float(value), -1e30)
