"""State of one request in the engine, from Start to Finished. Must not know caches or disk."""

import time
from itertools import accumulate
from typing import Literal

from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import (
    AppendInput,
    Known,
    Start,
    TextInput,
    TokensInput,
    WholeInput,
)
from hotseat.protocol.link_reports import Divergence, Emitted
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import ChunkPart, FinishReason, LengthLimit, TokenLogprob
from hotseat.protocol.tokens import block_chain, unpack_tokens
from hotseat.worker.batch.form import Form
from hotseat.worker.batch.sampling import LogitsProcessor, Sampler, make_processors, make_sampler
from hotseat.worker.batch.session_divergence import find_divergence
from hotseat.worker.context.snapshots import is_due, wanted_positions
from hotseat.worker.context.steps import (
    Hint,
    common_prefix,
    decode_hint,
    plan_completion,
    plan_segments,
)
from hotseat.worker.context.streamed import StreamedContext
from hotseat.worker.context.trace import Trace
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.text.rendering import Renderer

Stage = Literal["new", "asked", "prefilling", "decoding"]


class Turn:
    """One request. `prompt` is what was rendered, the session's context included.

    `ids` have to be in KV before the next draw: the prompt and what was emitted before a resume.
    """

    def __init__(
        self, start: Start, prompt: list[int], seated: SeatedModel, fit_tokens: int
    ) -> None:
        record = seated.record
        emitted = emitted_before(start)
        self._chunk = record.prefill_chunk
        self._stores_scores = record.stores_scores
        self.start = start
        self.prompt = prompt
        self.ids = prompt + emitted
        self.is_rendered = isinstance(start.input, WholeInput)
        self.context = unpack_tokens(start.context)
        self.hint: Hint | None = decode_hint(start.hint)
        self.agree = common_prefix(self.context, prompt)
        """How many leading tokens of the prompt the hint may speak of."""
        self.chain: list[BlockId] = block_chain(record.tag, self.ids[:-1])
        room = min(record.context_tokens, fit_tokens) - len(prompt)
        wanted = room if start.max_tokens is None else min(start.max_tokens, room)
        self.max_tokens = wanted
        self.limit: LengthLimit = "max_tokens"
        if start.max_tokens is None or start.max_tokens > room:
            self.limit = "context" if record.context_tokens <= fit_tokens else "kv_budget"
        self.end_ids = frozenset(record.eos_token_ids)
        self.sampler: Sampler = make_sampler(start.sampling, start.seed, len(emitted))
        self.processors: list[LogitsProcessor] = make_processors(start.sampling, record.vocab_size)
        self.kit = seated.kit
        self.form = Form(start, seated, len(prompt))
        self.processors += self.form.processors
        self.text = self.form.output
        self.stage: Stage = "new"
        self.known: Known | None = None
        self.session = start.session
        """None once the session was dropped: then nothing is kept at the end."""
        self.suspended_as = start.resume.held_as if start.resume else None
        self.reserved_tokens = 0
        self.streamed: StreamedContext | None = None
        """What of its context is read from files; None: all of it is in memory."""
        self.streamed_bytes = 0
        """What memory that takes, in place of its tokens."""
        self.trace: Trace | None = None
        self.snapshots_at: frozenset[int] = frozenset()
        """Positions in the prompt at which recurrent state is kept."""
        if record.is_recurrent:
            self.snapshots_at = wanted_positions(seated.kit.renderer, start, prompt)
        self.completion_tokens = 0
        self.received_at = time.monotonic()
        self.first_token_at: float | None = None
        self.ended_by: FinishReason | None = None if self.max_tokens else "length"
        """Why it ends, once that is known of a token that is reported and not in KV yet."""
        self.is_ahead = False
        """True while the token reported last is not in KV yet."""
        self._replay(emitted)

    @property
    def fed_tokens(self) -> int:
        """How many tokens have KV."""
        return self.trace.position if self.trace else 0

    @property
    def needed_tokens(self) -> int:
        """What has to have KV before the first draw, at least."""
        return needed_tokens(self.start, self.prompt)

    def leave_files(self) -> None:
        """Nothing of its context is read any more."""
        if self.streamed is not None:
            self.streamed.close()
        self.streamed, self.streamed_bytes = None, 0

    @property
    def is_full(self) -> bool:
        """True when the answer may have no further token."""
        return self.completion_tokens >= self.max_tokens

    @property
    def is_over(self) -> bool:
        """True when its end is known and a step away.

        One that says nothing knows it at once, and may have a long prompt before it.
        """
        return self.ended_by is not None and not (
            self.stage == "prefilling" and self.start.max_tokens == 0
        )

    @property
    def lacks_one(self) -> bool:
        """True when the next token is the last one."""
        return self.completion_tokens == self.max_tokens - 1

    def accept(self, token: int) -> tuple[tuple[ChunkPart, ...], FinishReason | None]:
        """Takes the next token; what became readable, and why the turn ends, if it does.

        An end-of-turn token ends it and is not part of the output.
        """
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
        if token in self.end_ids:
            return (), "stop"
        self.completion_tokens += 1
        parts = self.text.push(token)
        if self.text.is_stopped or self.text.has_called:
            return parts, "stop"
        if self.is_full:
            return parts, "length"
        if self.form.ends_with(parts):
            self.limit = "max_tokens"
            return parts, "length"
        return parts, None

    def wants_snapshot(self, position: int) -> bool:
        """True if the state after so many tokens shall be kept, where layers are recurrent."""
        return position in self.snapshots_at or is_due(position, len(self.prompt))

    def find_divergence(self) -> Divergence | None:
        """Where the prompt leaves the session's context; of the first start only."""
        if self.start.resume is not None:
            return None
        return find_divergence(self.kit.tokenizer, self.context, self.prompt, self.agree)

    def segments(self) -> list[int]:
        """Lengths in which the ids that have no KV yet are fed."""
        begin, prompt = self.fed_tokens, len(self.prompt)
        resume = self.start.resume
        fed = self._prompt_segments(begin, 0 if resume is None else resume.restored_tokens)
        return [*fed, *plan_completion(begin, prompt, len(self.ids))]

    def in_first_shapes(self, known: Known) -> Known:
        """Of stored blocks, those from whose end a resumed prompt goes on in its first shapes.

        A worker that died may have written some blocks of a chunk and not the others: these would
        be computed beside fewer tokens than the first time.
        """
        resume, position = self.start.resume, known.count * BLOCK_TOKENS
        if resume is None or not resume.restored_tokens < position < len(self.prompt) - 1:
            return known
        first = resume.restored_tokens
        ends = accumulate(self._prompt_segments(first, first), initial=first)
        begun = max(end for end in ends if end <= position)
        return replace(known, count=begun // BLOCK_TOKENS)

    def _prompt_segments(self, begin: int, fed_first: int) -> list[int]:
        return plan_segments(
            begin,
            len(self.prompt),
            self.hint,
            self.agree,
            self._chunk,
            fed_first,
            self.snapshots_at,
            stores_scores=self._stores_scores,
        )

    def _replay(self, emitted: list[int]) -> None:
        """Text, counts and limits as they were when the last of `emitted` had been reported."""
        for token in emitted:
            _parts, self.ended_by = self.accept(token)
        self.first_token_at = None


def emitted(
    turn: Turn,
    parts: tuple[ChunkPart, ...],
    tokens: tuple[int, ...] = (),
    logprobs: tuple[TokenLogprob, ...] = (),
) -> Emitted:
    """The report of output; parts are listed only where there is more than text."""
    request = turn.start.request
    if len(parts) == 1 and _is_plain(parts[0]):  # nearly every token: nothing to be put together
        return Emitted(request=request, tokens=tokens, text=parts[0].text, logprobs=logprobs)
    return Emitted(
        request=request,
        tokens=tokens,
        text="".join(part.text for part in parts if part.type == "text"),
        parts=() if all(map(_is_plain, parts)) else parts,
        logprobs=logprobs,
    )


def _is_plain(part: ChunkPart) -> bool:
    return part.type == "text" and part.tool_parse_error is None


def emitted_before(start: Start) -> list[int]:
    """Completion ids of a resumed request that were reported before."""
    return [] if start.resume is None else unpack_tokens(start.resume.emitted)


def render_prompt(renderer: Renderer, start: Start) -> list[int]:
    """Ids to have in KV before the first draw. Raises `HotseatError` for what cannot be.

    A resumed request brings them: they are not rendered again.
    """
    if start.resume is not None:
        return _not_empty(unpack_tokens(start.resume.prompt))
    context = unpack_tokens(start.context)
    match start.input:
        case WholeInput(messages=messages):
            prompt = renderer.render(
                messages, start.clock, tools=start.tools, arguments=start.template_args
            )
        case AppendInput(messages=messages, calls=calls):
            prompt = context + renderer.append(
                context,
                messages,
                start.clock,
                calls=calls,
                tools=start.tools,
                arguments=start.template_args,
            )
        case TextInput(text=text):
            prompt = context + renderer.encode_text(text, first=not context)
        case TokensInput(tokens=tokens):
            prompt = context + unpack_tokens(tokens)
    return _not_empty(prompt)


def _not_empty(prompt: list[int]) -> list[int]:
    if not prompt:
        raise HotseatError("invalid_request", "the prompt is empty; send at least one token")
    return prompt


def needed_tokens(start: Start, prompt: list[int]) -> int:
    """What has to have KV before the next draw, at least.

    The last id of a resumed request is the one that needs the room for an answer.
    """
    return len(prompt) + len(emitted_before(start)[:-1])


def check_prompt(
    start: Start, prompt: list[int], record: ModelRecord, fit_tokens: int, why: str = ""
) -> None:
    """Raises `HotseatError` if the prompt and one more token cannot be held; `why` not more.

    Ids that were in the context already are legal whatever the record says of the vocabulary: the
    model drew them itself. Weights are often padded beyond the tokenizer.
    """
    length = needed_tokens(start, prompt)
    if length >= min(record.context_tokens, fit_tokens):
        raise HotseatError(
            "context_overflow",
            f"the prompt has {length} tokens; the context takes {record.context_tokens} and the KV "
            f"budget {fit_tokens}, one of them for the answer{why}; send less",
            prompt_tokens=length,
            context_tokens=record.context_tokens,
            kv_fit_tokens=fit_tokens,
        )
    if start.resume is not None or max(prompt) < record.vocab_size:
        return
    strange = {token for token in prompt if token >= record.vocab_size}
    strange -= set(unpack_tokens(start.context))
    if strange:
        raise HotseatError(
            "invalid_request",
            f"tokens: id {max(strange)} is outside the vocabulary of {record.vocab_size}",
            token=max(strange),
            vocab_size=record.vocab_size,
        )
