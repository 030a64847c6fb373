"""Messages to token ids through a model's own chat template, whole or appended to a context.

Must not know weights, KV or the link: it holds a tokenizer and nothing else. The probe that decides
how a further turn is appended stands in `template_probe`, what becomes of messages that a template
does not take in `history`, and of control tokens in their text in `content_tokens`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import Any, Final, Literal

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, Tool, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.calls.call import plain_tool
from hotseat.worker.text.calls.formats import speaks_harmony
from hotseat.worker.text.content_tokens import ContentTokens, OwnWords, content_strings
from hotseat.worker.text.history import fold_history

_FIRST_USER: Final = Message(role="user", content="Which word comes first?")
_FIRST_ANSWER: Final = "Blue"
_OTHER_ANSWER: Final = "Stone wall 7"
_CLOCK_NAME: Final = "strftime_now"
_CLOCK_MACRO: Final = (
    "{%- macro strftime_now(format) -%}{%- set ns = namespace(text=format) -%}"
    "{%- for code, value in hotseat_clock.items() -%}"
    "{%- set ns.text = ns.text | replace(code, value) -%}{%- endfor -%}{{- ns.text -}}"
    "{%- endmacro +%}"
)
"""Stands in for transformers' `strftime_now`, which reads the wall clock: it turns
callables among the arguments into text, so a table of directives is passed instead."""
_DIRECTIVES: Final = tuple(
    f"%{flag}{letter}" for flag in ("", "-") for letter in "aAbBcdeFhHIjmMnpStTUwWxXyYZ"
)
_WITH_NULLS: Final = "{%- set messages = hotseat_messages +%}"
"""Null is dropped from messages on their way to a template, but not from arguments."""
_SPM_SPACE: Final = "\u2581"


class Renderer:
    """Renders for one model. Cheap to build; not bound to a thread; keeps no state of a session.

    `tokenizer` is an mlx_lm `TokenizerWrapper`. Dates in templates come from `clock` (Unix time,
    read as UTC), so that rendering again gives the same ids on another day.
    """

    def __init__(self, tokenizer: Any, probe: TemplateProbe) -> None:
        self._tokenizer = tokenizer
        self._probe = probe
        self._template_text = template_text(tokenizer)
        self._is_harmony = speaks_harmony(tokenizer)
        self._content = ContentTokens(tokenizer, self._template_text)
        self._end_ids = frozenset(int(token) for token in tokenizer.eos_token_ids)
        self._prepends_space = _prepends_space(tokenizer)
        self._closing: dict[bytes, tuple[int, ...]] = {}
        self._opens_thinking: dict[bytes, bool] = {}

    def render(
        self,
        messages: Sequence[Message],
        clock: float,
        *,
        generation_prompt: bool = True,
        tools: Sequence[Tool] = (),
        arguments: Mapping[str, Any] | None = None,
        skipped: int = 0,
    ) -> list[int]:
        """Ids of the whole dialogue; ends with the generation prompt unless told otherwise.

        `arguments` go to the template beside messages and tools. `skipped`: how many leading
        messages no client sent. Raises `HotseatError`: unsupported_feature without a template,
        unsupported_content or invalid_request for messages that the template refuses.
        """
        if not self._tokenizer.has_chat_template:
            raise HotseatError(
                "unsupported_feature",
                "the model has no chat template; send `prompt` or `tokens` instead of messages",
                feature="messages",
            )
        folded = fold_history(messages, self._probe, is_asked=generation_prompt, skipped=skipped)
        plain = [self._plain(message) for message in folded]
        data = (plain, [plain_tool(tool) for tool in tools], dict(arguments or {}))
        gap = self._content.gap_for(data)
        plain, described, given = self._content.broken(data, gap) if gap else data
        given["add_generation_prompt"] = generation_prompt
        if tools:
            given["tools"] = described
        given |= self._around_template(plain, given.get("tools"), clock)
        apply = self._tokenizer.apply_chat_template
        try:
            rendered = apply(plain, tokenize=not gap, **given)
            ids = self._content.encode(rendered, gap) if gap else rendered
        except Exception as error:  # templates are programs of their own, and refuse in any way
            raise self._refusal(messages, skipped, data, error) from error
        return [int(token) for token in ids]

    def _around_template(
        self, messages: list[dict[str, Any]], tools: Any, clock: float
    ) -> dict[str, Any]:
        """Arguments for what the template cannot get otherwise: another clock, null."""
        given: dict[str, Any] = {}
        lead = ""
        if _CLOCK_NAME in self._template_text:
            lead = _CLOCK_MACRO
            given["hotseat_clock"] = _clock_table(clock)
        if self._probe.null_content and self._template_text:
            lead += _WITH_NULLS
            given["hotseat_messages"] = messages
        if lead:
            given["chat_template"] = lead + self._tokenizer.get_chat_template(None, tools)
        return given

    def append(
        self,
        context: Sequence[int],
        messages: Sequence[Message],
        clock: float,
        *,
        calls: Sequence[ToolCall] | None = None,
        tools: Sequence[Tool] = (),
        arguments: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Ids to feed after `context`: closes its open turn, adds `messages` and the prompt.

        `calls` are those of the open turn; None: whatever the results among `messages` ask for.
        An end-of-turn id that the model already produced is not repeated. With an empty context
        this is `render`. Raises unsupported_feature if the template rewrites earlier turns.
        """
        render = partial(self.render, clock=clock, tools=tools, arguments=arguments)
        if not context:
            return render(messages)
        if self._probe.mode != "exact":
            raise _not_appendable(self._probe.reason or f"append mode is {self._probe.mode}")
        if not messages:
            raise HotseatError("invalid_request", "append: no messages; send at least one")
        calls = _asked_for(messages) if calls is None else calls
        if len(calls) > 1 and "parallel_calls" in self._probe.folds:
            raise _not_appendable("the template takes one call at a time")
        dummy = self._dummy_dialogue(messages, calls)
        before = render(dummy, generation_prompt=False)
        after = render([*dummy, *messages], skipped=len(dummy))
        if after[: len(before)] != before:
            raise _not_appendable("the template rewrites the turns before these messages")
        closing = self._closing_ids(dummy, before, render, _key(arguments))
        if closing and closing[0] in self._end_ids and context[-1] in self._end_ids:
            closing = closing[1:]
        return closing + after[len(before) :]

    def encode_text(self, text: str, *, first: bool) -> list[int]:
        """Ids of raw text; what the tokenizer begins a text with (bos) comes once, when `first`."""
        if first:
            return _begun(self._tokenizer, text)
        if not self._prepends_space:
            return encode_words(self._tokenizer, text, special=False)
        # A sentencepiece tokenizer with a dummy prefix would put a space before every piece of
        # continued text: encode behind a newline and cut the newline's ids off.
        lead = encode_words(self._tokenizer, "\n", special=False)
        whole = encode_words(self._tokenizer, "\n" + text, special=False)
        if whole[: len(lead)] == lead:
            return whole[len(lead) :]
        return encode_words(self._tokenizer, text, special=False)

    def opens_thinking(self, arguments: Mapping[str, Any] | None = None) -> bool:
        """True if the generation prompt ends inside reasoning that it opened itself."""
        if not (self._tokenizer.has_thinking and self._tokenizer.has_chat_template):
            return False
        key = _key(arguments)
        if key not in self._opens_thinking:
            # Only what the template adds counts: the mark may stand in a user's message as well.
            asked = self.render([_FIRST_USER], 0.0, generation_prompt=False, arguments=arguments)
            opened = self.render([_FIRST_USER], 0.0, arguments=arguments)
            added = opened[len(_common_prefix(asked, opened)) :]
            start = self._tokenizer.rfind_think_start(added)
            self._opens_thinking[key] = start > self._tokenizer.rfind_think_end(added)
        return self._opens_thinking[key]

    def _closing_ids(
        self, dummy: Sequence[Message], before: list[int], render: Any, key: bytes
    ) -> list[int]:
        """Ids the template puts after an assistant's text: what two unlike answers share."""
        if key not in self._closing:
            other = Message(role="assistant", content=_OTHER_ANSWER)
            answer = Message(role="assistant", content=_FIRST_ANSWER)
            if dummy[1].tool_calls:
                before = render([dummy[0], answer], generation_prompt=False)
            unlike = render([dummy[0], other], generation_prompt=False)
            self._closing[key] = tuple(_common_suffix(before, unlike))
        return list(self._closing[key])

    def _dummy_dialogue(
        self, messages: Sequence[Message], calls: Sequence[ToolCall]
    ) -> tuple[Message, Message]:
        """A closed dialogue after which `messages` make sense to a strict template."""
        is_answered = any(message.role == "tool" for message in messages)
        if calls and (is_answered or "missing_results" in self._probe.folds):
            answer = Message(role="assistant", content=None, tool_calls=tuple(calls))
        else:
            answer = Message(role="assistant", content=_FIRST_ANSWER)
        return (_FIRST_USER, answer)

    def _plain(self, message: Message) -> dict[str, Any]:
        """The dict that templates read."""
        content = message.content
        if isinstance(content, str) and message.role in ("assistant", "system"):
            content = OwnWords(content)
        plain: dict[str, Any] = {"role": message.role, "content": content}
        if message.name is not None:
            plain["name"] = message.name
        if message.tool_call_id is not None:
            plain["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            plain["tool_calls"] = [
                _plain_call(call, self._probe.call_arguments) for call in message.tool_calls
            ]
        if message.reasoning is not None:
            plain["reasoning_content"] = message.reasoning
            # Harmony keeps the thoughts before a call, under a name of its own, and refuses them
            # beside words.
            if self._is_harmony and message.tool_calls and not message.content:
                plain["thinking"] = message.reasoning
        return plain

    def _refusal(
        self, messages: Sequence[Message], skipped: int, data: Any, error: Exception
    ) -> HotseatError:
        roles = [message.role for message in messages]
        reason = " ".join(str(error).split()) or type(error).__name__
        quoted = (text for text in content_strings(data) if text in reason)
        if any(text not in self._template_text for text in quoted):
            reason = f"{type(error).__name__}, in words of the conversation"
        if not self._probe.system and {"system", "developer"} & set(roles):
            index = next(i for i, role in enumerate(roles) if role in ("system", "developer"))
            return HotseatError(
                "unsupported_content",
                f"messages[{index - skipped}]: the model's chat template takes no system message "
                f"({reason}); put the text into the first user message",
                message=index - skipped,
                part=None,
                type=roles[index],
            )
        given = roles[skipped:]
        return HotseatError(
            "invalid_request",
            f"messages: the model's chat template refuses them ({reason}); roles are "
            f"{', '.join(given) or 'none'}",
            roles=given,
        )


def template_text(tokenizer: Any) -> str:
    """Source of the chat template; several named ones are joined; empty without one."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        return "\n".join(f"{name}\n{text}" for name, text in sorted(template.items()))
    return template if isinstance(template, str) else ""


def _asked_for(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Calls that the results at the head of `messages` may have come from."""
    results = takewhile(lambda message: message.role == "tool", messages)
    return tuple(
        ToolCall(id=one.tool_call_id or f"call{place:05}", name=one.name or "look_up")
        for place, one in enumerate(results)
    )


def _plain_call(call: ToolCall, form: Literal["object", "text"]) -> dict[str, Any]:
    text = call.arguments or "{}"
    function = {"name": call.name, "arguments": text if form == "text" else json.loads(text)}
    return {"id": call.id, "type": "function", "function": function}


def _clock_table(clock: float) -> dict[str, str]:
    moment = datetime.fromtimestamp(clock, tz=UTC)
    return {code: moment.strftime(code) for code in _DIRECTIVES}


def encode_words(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Ids of a text; `special` ones of the tokenizer around it."""
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=special)]


def _begun(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text behind what begins one, unless the text brings that itself.

    What some tokenizers end a text with (eos) is left out: the model has to go on with it.
    """
    words = encode_words(tokenizer, text, special=False)
    framed = encode_words(tokenizer, text, special=True)
    starts = range(len(framed) - len(words) + 1)
    at = next((at for at in starts if framed[at : at + len(words)] == words), None)
    if not words or at is None:
        return framed
    return words if words[:at] == framed[:at] else framed[:at] + words


def _prepends_space(tokenizer: Any) -> bool:
    """True if encoding a word puts a sentencepiece space before it."""
    ids = encode_words(tokenizer, "a", special=False)
    return bool(ids) and str(tokenizer.convert_ids_to_tokens(ids[0])).startswith(_SPM_SPACE)


def _common_suffix(left: list[int], right: list[int]) -> list[int]:
    return _common_prefix(left[::-1], right[::-1])[::-1]


def _common_prefix(left: list[int], right: list[int]) -> list[int]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return [token for token, _ in pairs]


def _key(arguments: Mapping[str, Any] | None) -> bytes:
    """Arguments of a template as a key of a table."""
    return json.dumps(arguments or {}, sort_keys=True).encode()


def _not_appendable(reason: str) -> HotseatError:
    return HotseatError(
        "unsupported_feature",
        f"messages cannot be appended exactly: {reason}; render the whole conversation",
        feature="append",
        reason=reason,
    )
