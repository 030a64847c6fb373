"""Messages to token ids through a model's own chat template, whole or appended to a context.

Must not know weights, KV or the link: it holds a tokenizer and nothing else. The probe that decides
how a further turn is appended stands in `template_probe`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import Any, Final

import jinja2

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, Tool, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.calls.call import plain_tool

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
    ) -> list[int]:
        """Ids of the whole dialogue; ends with the generation prompt unless told otherwise.

        `arguments` go to the template beside messages and tools. Raises `HotseatError`:
        unsupported_feature without a template, unsupported_content or invalid_request for
        messages that the template refuses.
        """
        if not self._tokenizer.has_chat_template:
            raise HotseatError(
                "unsupported_feature",
                "the model has no chat template; send `prompt` or `tokens` instead of messages",
                feature="messages",
            )
        plain = [self._plain(message, index) for index, message in enumerate(messages)]
        given: dict[str, Any] = dict(arguments or {})
        given["add_generation_prompt"] = generation_prompt
        if tools:
            given["tools"] = [plain_tool(tool) for tool in tools]
        if _CLOCK_NAME in self._template_text:
            template = self._tokenizer.get_chat_template(None, given.get("tools"))
            given["chat_template"] = _CLOCK_MACRO + template
            given["hotseat_clock"] = _clock_table(clock)
        try:
            rendered = self._tokenizer.apply_chat_template(plain, tokenize=True, **given)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise self._refusal(messages, error) from error
        return [int(token) for token in rendered]

    def append(
        self,
        context: Sequence[int],
        messages: Sequence[Message],
        clock: float,
        *,
        tools: Sequence[Tool] = (),
        arguments: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Ids to feed after `context`: closes its open turn, adds `messages` and the prompt.

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
        dummy = _dummy_dialogue(messages[0])
        before = render(dummy, generation_prompt=False)
        after = render([*dummy, *messages])
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

    def _plain(self, message: Message, index: int) -> dict[str, Any]:
        """The dict that templates read."""
        role: str = message.role
        if role == "developer" and "developer" not in self._template_text:
            role = "system"
        plain: dict[str, Any] = {"role": role, "content": _joined_text(message, index)}
        if message.name is not None:
            plain["name"] = message.name
        if message.tool_call_id is not None:
            plain["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            plain["tool_calls"] = [
                _plain_call(call, f"messages[{index}].tool_calls[{position}]")
                for position, call in enumerate(message.tool_calls)
            ]
        if message.reasoning is not None:
            plain["reasoning_content"] = message.reasoning
        return plain

    def _refusal(self, messages: Sequence[Message], error: Exception) -> HotseatError:
        roles = [message.role for message in messages]
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self._probe.system and {"system", "developer"} & set(roles):
            index = next(i for i, role in enumerate(roles) if role in ("system", "developer"))
            return HotseatError(
                "unsupported_content",
                f"messages[{index}]: the model's chat template takes no system message ({reason}); "
                "put the text into the first user message",
                message=index,
                part=None,
                type=roles[index],
            )
        return HotseatError(
            "invalid_request",
            f"messages: the model's chat template refuses them ({reason}); roles are "
            f"{', '.join(roles) or 'none'}",
            roles=roles,
        )


def template_text(tokenizer: Any) -> str:
    """Source of the chat template; several named ones are joined; empty without one."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        return "\n".join(f"{name}\n{text}" for name, text in sorted(template.items()))
    return template if isinstance(template, str) else ""


def _dummy_dialogue(first_new: Message) -> tuple[Message, Message]:
    """A closed dialogue after which `first_new` makes sense to a strict template."""
    if first_new.role != "tool":
        return (_FIRST_USER, Message(role="assistant", content=_FIRST_ANSWER))
    call = ToolCall(
        id=first_new.tool_call_id or "call00000", name=first_new.name or "look_up", arguments="{}"
    )
    return (_FIRST_USER, Message(role="assistant", content=None, tool_calls=(call,)))


def _joined_text(message: Message, index: int) -> str:
    """Text of a message; parts are joined, anything but text is refused."""
    content = message.content
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    for position, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise HotseatError(
                "unsupported_content",
                f"messages[{index}].content[{position}]: the model takes text only, not "
                f"{part.type!r}",
                message=index,
                part=position,
                type=part.type,
            )
    return "".join(part.text or "" for part in content)


def _plain_call(call: ToolCall, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError as error:
        raise HotseatError(
            "invalid_request", f"{path}.arguments: not JSON ({error})", path=path
        ) from error
    if not isinstance(arguments, dict):
        # Not the value itself: errors are logged and journalled, conversations are not.
        kind = type(arguments).__name__
        raise HotseatError(
            "invalid_request", f"{path}.arguments: not a JSON object but {kind}", path=path
        )
    function = {"name": call.name, "arguments": arguments}
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
