"""Constrained decoding: tokens that the grammar of a request does not allow cannot be drawn.

llguidance knows the grammar and computes masks on the CPU; this file keeps its matcher in step
with the tokens. The matcher follows from the ids alone: a request that is resumed has it again.
Must not know requests, tools or where a grammar comes from (`constraints`).
"""

import json
from typing import Any, Final

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.json_schema import Schema
from hotseat.worker.text.schemas import Plain

_NEVER: Final = float("-inf")
_SILENT: Final = 0
"""Log level: its warnings show what the model wrote, and would stand in the worker's log."""
_MISSING: Final = "Unimplemented"
"""With this word llguidance says that a JSON schema uses a key it cannot honour."""
OUTGROWN: Final = "it grew beyond the limits of the grammar library"
"""Of every failure on the way: llguidance's own words show what the model wrote and stay here."""


class GrammarProcessor:
    """A logits processor for one request; the first `prompt_tokens` of its context are not its."""

    def __init__(self, matcher: Any, end_ids: frozenset[int], prompt_tokens: int) -> None:
        self._matcher = matcher
        self._end_ids = sorted(end_ids)
        self._seen = prompt_tokens
        self.failure = ""
        """Why the grammar cannot be followed any further; empty as long as it can."""

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits `(1, vocab)` with minus infinity for what may not follow `tokens` `(n,)`."""
        new: Any = tokens[self._seen :].tolist()
        self._seen += len(new)
        if new and not self._matcher.is_stopped():
            self._matcher.consume_tokens([int(token) for token in new])
        if self._matcher.is_error() and not self.failure:
            self.failure = OUTGROWN
        return mx.where(self._allowed(logits.shape[-1]), logits, mx.array(_NEVER, logits.dtype))

    def _allowed(self, width: int) -> mx.array:
        if self._matcher.is_stopped():
            bits = np.zeros(width, dtype=np.uint8)
            bits[self._end_ids] = 1
        else:
            packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            bits = np.unpackbits(packed, bitorder="little", count=width)
        return mx.array(bits.astype(np.bool_))


class Grammars:
    """Makes matchers for one tokenizer; reads it on first use, which can take a second."""

    def __init__(self, tokenizer: Any, vocab_size: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = end_ids
        self._read: Any = None

    def processor(self, grammar: str, prompt_tokens: int, field: str) -> GrammarProcessor:
        """A processor for a Lark grammar; `field` of the request is blamed for a bad one."""
        compiled = LLMatcher.grammar_from_lark(grammar)
        matcher = LLMatcher(self._tokens(field), compiled, log_level=_SILENT)
        if matcher.is_error():
            raise _refusal(field, matcher.get_error())
        return GrammarProcessor(matcher, self._end_ids, prompt_tokens)

    def check_schema(self, schema: Schema, field: str) -> None:
        """Raises `HotseatError` for a JSON schema that the library cannot follow.

        The daemon refused what it can tell: what is left contradicts itself over several schemas,
        or is too large for the library.
        """
        compiled = LLMatcher.grammar_from_json_schema(json.dumps(Plain(schema).whole()))
        is_bad, messages = LLMatcher.validate_grammar_with_warnings(compiled, self._tokens(field))
        if is_bad or messages:
            raise _refusal(field, "; ".join(messages))

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for: maybe a piece of a character."""
        tokens = self._tokens("logprobs") if self._has_fast else None
        if tokens is None or tokens.is_special_token(token):
            return str(self._tokenizer.decode([token])).encode()
        return bytes(tokens.decode_bytes([token]))

    @property
    def _has_fast(self) -> bool:
        return getattr(self._tokenizer, "backend_tokenizer", None) is not None

    def terminal(self, mark: str, field: str) -> str:
        """`mark` as a terminal of a Lark grammar: by its id if it is a special token."""
        tokens = self._tokens(field)
        token = self._tokenizer.get_vocab().get(mark)
        if token is not None and tokens.is_special_token(token):
            return f"<[{token}]>"
        return json.dumps(mark)

    def _tokens(self, field: str) -> Any:
        if self._read is None:
            backend = getattr(self._tokenizer, "backend_tokenizer", None)
            if backend is None:
                raise HotseatError(
                    "unsupported_feature",
                    f"{field}: the tokenizer of this model cannot be constrained (no fast "
                    "tokenizer); ask in words instead",
                    field=field,
                )
            self._read = LLTokenizer(
                backend.to_str(),
                n_vocab=max(self._vocab_size, len(self._tokenizer)),
                eos_token=sorted(self._end_ids) or None,
            )
        return self._read


def _refusal(field: str, reason: str) -> HotseatError:
    """Of a grammar that was not begun: the reason holds nothing but the schema's own words."""
    reason = " ".join(reason.split())[:300]
    return HotseatError(
        "unsupported_feature" if _MISSING in reason else "invalid_request",
        f"{field}: the schema cannot be enforced ({reason}); simplify it",
        field=field,
        reason=reason,
    )
