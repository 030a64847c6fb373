"""What a request asks of its output beside the text: parts, grammar, forbidden calls.

Puts together what `parts_out`, `constraints` and `grammar` do. Must not know caches or the link.
"""

from collections.abc import Sequence
from typing import Any, Final

import mlx.core as mx

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.limits import MAX_FORM_TOKENS
from hotseat.protocol.link_orders import Start, TextInput, TokensInput
from hotseat.protocol.messages import Tool
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.batch.sampling import LogitsProcessor
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.model.preparing import TokenizerKit
from hotseat.worker.text.calls.formats import call_format, speaks_harmony
from hotseat.worker.text.channels import Channels
from hotseat.worker.text.constraints import (
    Marks,
    answer_schema,
    arguments_of,
    is_any_strict,
    make_grammar,
)
from hotseat.worker.text.grammar import GrammarProcessor
from hotseat.worker.text.parts_out import PartsOut, Splitter
from hotseat.worker.text.rendering import encode_words, template_text
from hotseat.worker.text.speech import Speech
from hotseat.worker.text.text_out import TextOut

_NEVER: Final = float("-inf")
_NAMES_FIRST: Final = "[ARGS]"


class Form:
    """The form of one completion. Raises `HotseatError` for what cannot be honoured."""

    def __init__(self, start: Start, seated: SeatedModel, prompt_tokens: int) -> None:
        is_raw = _is_raw(start)
        kit, tokenizer = seated.kit, seated.kit.tokenizer
        thinks = _thinks(start, kit)
        tools = () if start.tool_choice == "none" else start.tools
        text = TextOut(tokenizer.detokenizer, start.stop, keep_first_space=is_raw)
        splitter = None if is_raw else _splitter(tokenizer, start.request, tools, thinks=thinks)
        self.output = PartsOut(text, splitter, one_call=start.parallel_calls is False)
        self.grammar: GrammarProcessor | None = None
        self.field = ""
        """What of the request asked for the grammar."""
        self._is_bounded = start.max_tokens is None
        self._free = _free_parts(start)
        self._spent_tokens = 0
        self.processors: list[LogitsProcessor] = []
        if start.tool_choice == "none" and start.tools:
            self.processors += _without_calls(tokenizer)
        found = _grammar_of(start, kit, seated.record.template.tool_parser)
        if found is not None:
            self.field, grammar = found
            self.grammar = kit.grammars.processor(grammar, prompt_tokens, self.field)
            # Last of all: whatever was biased before, only what the grammar allows is left.
            self.processors.append(self.grammar)

    @property
    def failure(self) -> str:
        """Why the grammar could not be followed to the end; empty if it could."""
        return self.grammar.failure if self.grammar is not None else ""

    def ends_with(self, parts: tuple[ChunkPart, ...]) -> bool:
        """Takes what a token made readable; True if the form has had all the tokens it gets.

        What the grammar leaves free does not count: a small model that goes on with a number or a
        list for ever shall not take the whole window.
        """
        if self.grammar is None or not self._is_bounded:
            return False
        is_free = any(part.type in self._free for part in parts)
        self._spent_tokens = 0 if is_free else self._spent_tokens + 1
        return self._spent_tokens >= MAX_FORM_TOKENS


def check_form(start: Start, kit: TokenizerKit, parser: str) -> None:
    """Raises the `HotseatError` of a form that cannot be kept. Needs no weights."""
    found = _grammar_of(start, kit, parser)
    if found is not None:
        field, grammar = found
        kit.grammars.processor(grammar, 0, field)


def _grammar_of(start: Start, kit: TokenizerKit, parser: str) -> tuple[str, str] | None:
    """What of the request asks for a grammar, and the grammar; None if every text will do.

    `parser` is the model's way to write calls. Raises `HotseatError`.
    """
    grammars, field = kit.grammars, "tool_choice"
    schema = answer_schema(start.response_format)
    if start.tool_choice in ("auto", "none"):
        field = "response_format"
        is_strict = start.tool_choice == "auto" and is_any_strict(start.tools)
        if schema is None and not is_strict:
            return None
        if schema is None:
            field = "tools.function.strict"
        else:
            grammars.check_schema(schema, "response_format.schema")
    if start.tool_choice != "none":
        for index, tool in enumerate(start.tools):
            where = f"tools[{index}].function.parameters"
            grammars.check_schema(arguments_of(tool), where)
    grammar = make_grammar(
        _marks(start, kit, parser),
        lambda mark: grammars.terminal(mark, field),
        response_format=start.response_format,
        tool_choice=start.tool_choice,
        tools=start.tools,
    )
    return None if grammar is None else (field, grammar)


def _is_raw(start: Start) -> bool:
    """True for a completion that is no chat: all of it is text."""
    return isinstance(start.input, TextInput | TokensInput)


def _thinks(start: Start, kit: TokenizerKit) -> bool:
    """True if the prompt ends inside reasoning."""
    return not _is_raw(start) and kit.renderer.opens_thinking(start.template_args)


def _splitter(
    tokenizer: Any, request: RequestKey, tools: Sequence[Tool], *, thinks: bool
) -> Splitter | None:
    """What tells reasoning and calls from text; None where all is text."""
    if speaks_harmony(tokenizer):
        return Channels(request, tools)
    if tokenizer.has_thinking or tools:
        return Speech(tokenizer, call_format(tokenizer), request, tools, thinks=thinks)
    return None


def _free_parts(start: Start) -> frozenset[str]:
    """Kinds of output that the grammar does not hold: text too, if only calls have a form."""
    is_free = start.tool_choice == "auto" and answer_schema(start.response_format) is None
    return frozenset({"reasoning", "text", "tool_call"} if is_free else {"reasoning"})


def _marks(start: Start, kit: TokenizerKit, parser: str) -> Marks:
    tokenizer = kit.tokenizer
    if _is_raw(start):
        return Marks()
    return Marks(
        think_start=tokenizer.think_start,
        think_end=tokenizer.think_end,
        thinks=_thinks(start, kit),
        call_start=tokenizer.tool_call_start,
        call_end=tokenizer.tool_call_end,
        parser=parser,
        names_first=_NAMES_FIRST in template_text(tokenizer),
    )


def _without_calls(tokenizer: Any) -> list[LogitsProcessor]:
    """Calls are not looked for; where a single token begins them, it cannot be drawn either."""
    calls = call_format(tokenizer)
    first = encode_words(tokenizer, calls.start, special=False) if calls is not None else []
    if len(first) != 1:
        return []
    token = first[0]

    def forbid(_tokens: mx.array, logits: mx.array) -> mx.array:
        logits[:, token] = _NEVER
        return logits

    return [forbid]


def refuse_failed(form: Form) -> HotseatError:
    """The error of a request whose grammar reached a limit of llguidance."""
    return HotseatError(
        "unsupported_feature",
        f"{form.field}: the schema could not be followed to the end: {form.failure}; use smaller "
        "lengths and repetitions, or fewer alternatives",
        field=form.field,
        reason=form.failure,
    )
