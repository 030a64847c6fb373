"""The rows of a lane that decode together: one pass of the model draws a token for each.

mlx-lm's batch, but for what its step does for nobody: log probabilities are kept only where
they were asked for, a row joins with the last token of its prompt instead of feeding that alone,
and one that has no neighbours does without positions, padding and masks by row. Must not know
text, sessions or disk.
"""

# ruff: noqa: SLF001 - rows join through what mlx-lm keeps to itself

from collections.abc import Sequence
from typing import Any, Final, Self

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, StopSequences, TokenBuffer
from mlx_lm.sample_utils import greedy_sampler
from msgspec import Struct

from hotseat.worker.batch.sampling import Sampler
from hotseat.worker.batch.turn import Turn
from hotseat.worker.model.caches import batched, cache_arrays, leaves

NO_LIMIT: Final = 2**31
"""The engine ends rows by itself: text, budgets and windows are its business."""


class Arrival(Struct, frozen=True):
    """A row that is to join: `caches` of one sequence lack `token`, the last of its prompt."""

    turn: Turn
    caches: list[Any]
    token: int


class DecodingRows(GenerationBatch):  # type: ignore[misc]
    """`uids` are the turns. `_next_tokens` holds what was drawn for each and is not in KV yet.

    `prompt_cache` are caches of one sequence while there is one row, and a batch's from two on: the
    form tells nothing of who was here before, so a row that left and comes back finds it again.
    """

    uids: list[Turn]
    prompt_cache: list[Any]
    samplers: list[Sampler]
    _next_tokens: Any
    _next_logprobs: list[Any]

    @classmethod
    def none(cls, model: Any) -> Self:
        """A batch without rows."""
        rows: Self = cls.empty(model, greedy_sampler)
        return rows

    def join(self, arrivals: Sequence[Arrival]) -> None:
        """Adds rows that have everything in KV but the last token of their prompts.

        Those that come together become a batch at once: each copy of the others' KV costs as much
        as a step. The next step feeds the tokens.
        """
        if not arrivals:
            return
        rows = [arrival.caches for arrival in arrivals]
        waiting = mx.array([arrival.token for arrival in arrivals], dtype=mx.uint32)
        if self.uids:
            self._form_batch()
            for mine, new in zip(self.prompt_cache, batched(rows), strict=True):
                mine.extend(new)
            waiting = mx.concatenate([self._next_tokens, waiting])
        else:
            self.prompt_cache = rows[0] if len(rows) == 1 else batched(rows)
        self._next_tokens = waiting
        for arrival in arrivals:
            self._enrol(arrival.turn)

    def _enrol(self, turn: Turn) -> None:
        self.uids.append(turn)
        self._next_logprobs.append(None)
        self.tokens.append([])
        self.samplers.append(turn.sampler)
        self.logits_processors.append(tuple(turn.processors))
        self._token_context.append(TokenBuffer(turn.ids[:-1] if turn.processors else []))
        self.max_tokens.append(NO_LIMIT)
        self.stop_sequences.append(_NO_STOPS)
        self._num_tokens.append(0)
        self._matchers.append(_NO_STOPS.matcher())

    def take_over(self, begun: "DecodingRows") -> None:
        """Adds a row that has fed its last token by itself."""
        if self.uids:
            self._form_batch()
            begun._form_batch()
        self.extend(begun)

    def step(self) -> tuple[list[int], list[Any]]:
        """Feeds every row's token and draws the next ones; those that were fed, by row."""
        tokens, logprobs = self._next_tokens, self._next_logprobs
        logits = self.model(tokens[:, None], cache=self.prompt_cache)[:, -1, :]
        contexts: list[mx.array] = []
        if any(self.logits_processors):
            logits = self._process(logits, tokens, contexts)
        self._next_tokens, self._next_logprobs = self._draw(logits)
        # Computed while the caller deals with the tokens that are handed out now.
        mx.async_eval(self._next_tokens, self._next_logprobs, contexts)  # type: ignore[no-untyped-call]
        mx.eval(tokens)  # waits without the interpreter's lock
        return tokens.tolist(), logprobs

    def pending(self, turn: Turn) -> tuple[int, Any]:
        """What is drawn for a row and not in KV yet; waits for it."""
        row = self.uids.index(turn)
        return int(self._next_tokens[row].item()), self._next_logprobs[row]

    def remove(self, turn: Turn, *, wanted: bool) -> list[Any]:
        """Takes a row out; its caches if `wanted`."""
        row = self.uids.index(turn)
        rest = [other for other in range(len(self.uids)) if other != row]
        caches = self._caches_of(row) if wanted else []
        if len(rest) > 1:
            self.filter(rest)
            return caches
        left = [cache for other in rest for cache in self._caches_of(other)]
        self.prompt_cache = []
        self.filter(rest)
        self.prompt_cache = left
        return caches

    def settle(self, parted: list[Any] | None = None) -> None:
        """Computes joined or parted caches layer by layer: together they would all be copied."""
        parted = parted or []
        for entry in range(max(len(self.prompt_cache), len(parted))):
            pair = self.prompt_cache[entry : entry + 1] + parted[entry : entry + 1]
            mx.eval([array for cache in leaves(pair) for array in cache_arrays(cache)])

    def _form_batch(self) -> None:
        if len(self.uids) == 1:
            self.prompt_cache = batched([self.prompt_cache])

    def _caches_of(self, row: int) -> list[Any]:
        if len(self.uids) == 1:
            return self.prompt_cache
        caches: list[Any] = self.extract_cache(row)
        return caches

    def _process(self, logits: mx.array, fed: mx.array, contexts: list[mx.array]) -> mx.array:
        """Logits as each row's own processors leave them; adds the ids that these looked at."""
        rows = []
        for row, processors in enumerate(self.logits_processors):
            own = logits[row : row + 1]
            if processors:
                context = self._token_context[row].update_and_fetch(fed[row : row + 1])
                contexts.append(context)
                for process in processors:
                    own = process(context, own)
            rows.append(own)
        return mx.concatenate(rows)

    def _draw(self, logits: mx.array) -> tuple[mx.array, list[Any]]:
        """Next tokens `(rows,)`; log probabilities `(vocab,)` of the rows that ask for them."""
        wanted = [turn.start.logprobs for turn in self.uids]
        greedy = [sampler is greedy_sampler for sampler in self.samplers]
        # The largest logit is the largest log probability: the sum over a vocabulary is spared.
        # Where rounding makes two of them equal they part, so this must not depend on others.
        if all(greedy) and not any(wanted):
            return greedy_sampler(logits), [None] * len(wanted)
        scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        drawn = mx.concatenate(
            [
                draw((logits if is_greedy else scores)[row : row + 1])
                for row, (draw, is_greedy) in enumerate(zip(self.samplers, greedy, strict=True))
            ]
        )
        return drawn, [scores[row] if want else None for row, want in enumerate(wanted)]


_NO_STOPS: Final = StopSequences(None)
