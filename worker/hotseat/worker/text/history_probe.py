"""Finds out at registration what conversations a chat template takes as they are.

Renders small dialogues and looks whether everything in them is shown, where it stands. Must not
know weights, KV or files, nor what stands for what a template does not take (`history`).
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, Tool, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.rendering import Renderer

_CLOCK: Final = 1_700_000_000.0
_FIRST: Final = Message(role="user", content="Name a river.")
_ANSWER: Final = Message(role="assistant", content="The Danube flows east.")
_SECOND: Final = Message(role="user", content="Which one is longest?")
_THIRD: Final = Message(role="user", content="Does any of them run dry?")
_MORE: Final = Message(role="assistant", content="Perhaps the Okavango.")
_EMPTY: Final = Message(role="assistant", content="")
_SYSTEM: Final = Message(role="system", content="Speak like a lighthouse keeper.")
_RULE: Final = Message(role="system", content="Mention no mountains.")
_TIDES: Final = (
    ToolCall(id="tide00000", name="measure_tide", arguments='{"place": "Brest"}'),
    ToolCall(id="tide00001", name="measure_tide", arguments='{"place": "Calais"}'),
)
_HEIGHTS: Final = (
    Message(role="tool", content="2 metres", tool_call_id="tide00000", name="measure_tide"),
    Message(role="tool", content="5 metres", tool_call_id="tide00001", name="measure_tide"),
)
_CALL: Final = Message(role="assistant", tool_calls=_TIDES[:1])
_CALLS: Final = Message(role="assistant", tool_calls=_TIDES)
_CALL_OF_OTHERS: Final = Message(
    role="assistant", tool_calls=(structs.replace(_TIDES[0], id="call_of-another-program"),)
)
_HEIGHT: Final = "2 metres"
_BOTH_CALLED: Final = ("Brest", "Calais", "2 metres", "5 metres")
_AS_PYTHON: Final = "'place'"
_QUOTED: Final = '\\"place'


def probe_history(tokenizer: Any, tools: Sequence[Tool], parser: str) -> TemplateProbe:
    """What to give the template of `tokenizer`, as a probe that is `exact`.

    `tools` are given along with calls: none where the template has no place for them. `parser`
    reads the calls of this model.
    """
    watcher = _Watcher(tokenizer, TemplateProbe(mode="exact", tool_parser=parser), tools)
    folds = [*_system_folds(watcher), *_turn_folds(watcher)]
    watcher = _call_form(watcher)
    folds += _call_folds(watcher)
    return structs.replace(watcher.probe, folds=tuple(folds))


def settle_history(tokenizer: Any, probe: TemplateProbe) -> TemplateProbe:
    """`probe` with the folds that a template needs to which turns are appended.

    Without them a prompt would not be the head of the conversation that goes on from it.
    """
    watcher = _Watcher(tokenizer, probe, ())
    folds = list(probe.folds)
    if not watcher.goes_on([_FIRST, _ANSWER], [_MORE]):
        folds.append("assistant_turns")
    if not watcher.goes_on([_FIRST], [_EMPTY]):
        folds.append("empty_replies")
    return structs.replace(probe, folds=tuple(dict.fromkeys(folds)))


class _Watcher:
    """Renders with one probe and looks at what comes out."""

    def __init__(self, tokenizer: Any, probe: TemplateProbe, tools: Sequence[Tool]) -> None:
        self.probe = probe
        self._tokenizer = tokenizer
        self._tools = tuple(tools)
        self._renderer = Renderer(tokenizer, probe)

    def with_form(self, **form: Any) -> "_Watcher":
        """The same with calls in another form."""
        return _Watcher(self._tokenizer, structs.replace(self.probe, **form), self._tools)

    def text(self, messages: Sequence[Message], *, is_asked: bool = False) -> str:
        """What the template makes of the messages; empty if it refuses them."""
        has_calls = any(message.tool_calls for message in messages)
        try:
            ids = self._renderer.render(
                messages,
                _CLOCK,
                tools=self._tools if has_calls else (),
                generation_prompt=is_asked,
            )
        except HotseatError:
            return ""
        return str(self._tokenizer.decode(ids))

    def shows(self, messages: Sequence[Message], wanted: Sequence[str] = ()) -> bool:
        """True if all texts are shown in their order, or `wanted` in any order."""
        rest = self.text(messages)
        if wanted:
            return all(text in rest for text in wanted)
        for text in (str(message.content) for message in messages if message.content):
            _, found, rest = rest.partition(text)
            if not found:
                return False
        return True

    def goes_on(self, asked: Sequence[Message], more: Sequence[Message]) -> bool:
        """True if a prompt stays the head of its conversation when that goes on."""
        prompt = self.text(asked, is_asked=True)
        return self.text([*asked, *more]).startswith(prompt)

    def keeps_head(self, messages: Sequence[Message], others: Sequence[Message]) -> bool:
        """True if two dialogues that go on differently after an answer are alike up to it."""
        pairs = zip(self.text(messages), self.text(others), strict=False)
        shared = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return str(_ANSWER.content) in shared


def _system_folds(watcher: _Watcher) -> list[str]:
    if not watcher.shows([_SYSTEM, _FIRST]):
        return ["system", "several_system", "later_system"]
    folds = []
    if not watcher.shows([_SYSTEM, _RULE, _FIRST]):
        folds.append("several_system")
    heads: tuple[list[Message], ...] = ([], [_SYSTEM])
    is_taken = all(
        watcher.shows([*head, _FIRST, _ANSWER, _RULE, _SECOND])
        and watcher.shows([*head, _FIRST, _RULE])
        and watcher.keeps_head(
            [*head, _FIRST, _ANSWER, _RULE, _SECOND], [*head, _FIRST, _ANSWER, _SECOND]
        )
        for head in heads
    )
    return folds if is_taken else [*folds, "later_system"]


def _turn_folds(watcher: _Watcher) -> list[str]:
    folds = []
    users = ([_FIRST, _SECOND], [_FIRST, _ANSWER, _SECOND, _THIRD])
    if not all(map(watcher.shows, users)):
        folds.append("user_turns")
    replies = ([_FIRST, _ANSWER, _MORE, _SECOND], [_ANSWER, _SECOND])
    if not all(map(watcher.shows, replies)):
        folds.append("assistant_turns")
    if not watcher.shows([_FIRST, _EMPTY, _SECOND]):
        folds.append("empty_replies")
    return folds


def _call_form(watcher: _Watcher) -> _Watcher:
    """With the form in which calls are shown; with the usual one if they are in none."""
    forms: tuple[dict[str, Any], ...] = (
        {},
        {"call_arguments": "text"},
        {"null_content": True},
        {"null_content": True, "call_arguments": "text"},
    )
    formed = (watcher.with_form(**form) for form in forms)
    return next((one for one in formed if _shows_call(one, _CALL)), watcher)


def _call_folds(watcher: _Watcher) -> list[str]:
    """What the template does not take of calls and their results."""
    folds = []
    shows_calls = _shows_call(watcher, _CALL)
    shows_results = any(_HEIGHT in watcher.text(talk) for talk in _talks(_CALL, _HEIGHTS[:1])[:2])
    if not shows_calls:
        folds.append("calls")
    if not shows_results:
        folds.append("results")
    if not shows_calls:
        return folds
    folds += _reply_folds(watcher, _HEIGHTS if shows_results else ())
    return [*folds, *_result_folds(watcher, folds)] if shows_results else folds


def _reply_folds(watcher: _Watcher, results: Sequence[Message]) -> list[str]:
    folds = []
    both = _BOTH_CALLED if results else _BOTH_CALLED[:2]
    if not any(watcher.shows(talk, both) for talk in _talks(_CALLS, results)):
        folds.append("parallel_calls")
    if not _shows_call(watcher, _CALL_OF_OTHERS):
        folds.append("call_ids")
    spoken = structs.replace(_CALL, content=_MORE.content)
    texts = [text for talk in _talks(spoken, results[:1]) if (text := watcher.text(talk))]
    thought = structs.replace(spoken, reasoning="They turn twice a day.")
    is_taken = any(map(watcher.text, _talks(thought, results[:1])))
    if not (is_taken and all("Brest" in text and str(_MORE.content) in text for text in texts)):
        folds.append("text_with_calls")
    return folds


def _result_folds(watcher: _Watcher, known: Sequence[str]) -> list[str]:
    folds = []
    lone = [[_FIRST, _CALL, _ANSWER, _SECOND], [_FIRST, _CALL, _SECOND]]
    if "parallel_calls" not in known:
        lone.append([_FIRST, _CALLS, _HEIGHTS[0], _ANSWER, _SECOND])
    if not all(map(watcher.shows, lone)):
        folds.append("missing_results")
    if not watcher.shows([_FIRST, _CALL, _HEIGHTS[0], _SECOND]):
        folds.append("user_after_results")
    return folds


def _shows_call(watcher: _Watcher, reply: Message) -> bool:
    """True if arguments stand there as JSON or by themselves, not as Python or JSON twice."""
    texts = map(watcher.text, _talks(reply, _HEIGHTS[:1]))
    return any("Brest" in text and _AS_PYTHON not in text and _QUOTED not in text for text in texts)


def _talks(reply: Message, results: Sequence[Message]) -> tuple[list[Message], ...]:
    """Dialogues with calls: some templates insist on results, others take none."""
    results = [
        structs.replace(result, tool_call_id=call.id)
        for result, call in zip(results, reply.tool_calls, strict=False)
    ]
    return (
        [_FIRST, reply, *results, _ANSWER, _SECOND],
        [_FIRST, reply, *results],
        [_FIRST, reply],
    )
