"""What one architecture has to do: register, load, answer, leave the seat, come back and go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from msgspec import structs
from tests.support.call_samples import parts_of
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens
from tests.support.models.kinds.architecture import Architecture
from tests.support.models.lora import make_lora

from benchmarks.kinds.result import KindResult
from hotseat.library.importing import import_model
from hotseat.protocol.link_orders import WholeInput
from hotseat.protocol.messages import FunctionSpec, Message, Sampling, Tool
from hotseat.protocol.model import LayerSpec, ModelRecord
from hotseat.protocol.parts import Collected, collect_parts, text_part
from hotseat.worker.text.calls.formats import HARMONY

PROMPTS: Final = (280, 41, 30)
"""Ids of the turns. The first fills a block and some; all windows of the tiny models are full."""
ANSWER: Final = 24
END, THINK = 2, 3
ASK: Final = WholeInput(messages=(Message(role="user", content="What is the weather in Lima?"),))
LOOK: Final = Tool(
    function=FunctionSpec(
        name="look",
        description="Looks out of the window.",
        parameters={
            "type": "object",
            "properties": {"way": {"type": "string", "enum": ["north", "south"]}},
            "required": ["way"],
            "additionalProperties": False,
        },
    )
)


_T = TypeVar("_T")


class FailedError(Exception):
    """A step did not do what it has to; the text says which and what it did."""


def run_kind(architecture: Architecture, home: Path) -> KindResult:
    """All steps in this process, in a folder of its own. Never raises for what a model does."""
    result = KindResult(kind=architecture.kind, models=architecture.models)
    folder = home / "src"
    try:
        _step("make", lambda: architecture.make(folder))
        record = _step("register", lambda: registered(folder, home, "m"))
        if record.unfit_reason:
            return structs.replace(result, is_refused=True, failure=record.unfit_reason)
        result = structs.replace(
            result,
            attention=attention_of(record.layers),
            rows=record.batches,
            cuts=record.capabilities.cuts,
        )
        result = _step("swap", lambda: swapped(result, record, home))
        result = _step("speak", lambda: _spoken(result, record, architecture, home))
    except FailedError as failure:
        return structs.replace(result, failure=str(failure).replace(f"{home}/", ""))
    try:
        is_adapted = _step("adapter", lambda: _adapted(record, folder, home))
    except FailedError as failure:
        return structs.replace(result, failure=str(failure).replace(f"{home}/", ""))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return structs.replace(result, adapters=is_adapted)


def _step(name: str, run: Callable[[], _T]) -> _T:
    try:
        return run()
    except FailedError:
        raise
    except Exception as error:  # whatever the code of a model raises is the finding
        words = " ".join(str(error).split())[:240] or type(error).__name__
        raise FailedError(f"{name}: {words}") from error


def registered(folder: Path, home: Path, name: str, adapter: Path | None = None) -> ModelRecord:
    """The record of a folder in a home of its own."""
    return import_model(folder, home / "home", name, lambda *_: None, adapter=adapter)


def attention_of(layers: tuple[LayerSpec, ...]) -> str:
    """How the layers keep what they have read, for people."""
    words = []
    for layer in layers:
        if layer.kind == "state":
            words.append("recurrent")
        elif layer.kind == "window":
            words.append("window")
        else:
            is_latent = layer.kv_heads == 1 and layer.k_dim != layer.v_dim
            words.append("latent" if is_latent else "full")
    return " + ".join(dict.fromkeys(words))


def _conversation(record: ModelRecord, kv: Path, *, leaves: bool) -> tuple[list[list[int]], bool]:
    """Tokens of each turn, and whether only new ones were computed. `leaves`: the seat, between."""
    supervisor = FakeSupervisor(record, kv)
    supervisor.seat()
    said, is_exact = [], True
    try:
        for number, length in enumerate(PROMPTS):
            outcome = supervisor.turn(prompt_tokens(length, number), "s", max_tokens=ANSWER)
            said.append(outcome.tokens)
            new = length + (UNFED if number else 0)
            is_exact = is_exact and outcome.started.computed_tokens == new
            if leaves:
                failed = supervisor.checkpoint().failed
                if failed:
                    raise FailedError(f"swap: contexts could not be written ({failed})")
                supervisor.seat()
    finally:
        supervisor.unseat()
    return said, is_exact


def swapped(result: KindResult, record: ModelRecord, home: Path) -> KindResult:
    """With what a conversation shows that leaves the seat. Raises FailedError for other tokens."""
    kept, _ = _conversation(record, home / "kept", leaves=False)
    again, is_exact = _conversation(record, home / "again", leaves=True)
    if any(len(turn) != ANSWER for turn in kept) or len({*kept[0]}) == 1:
        raise FailedError(f"swap: the tiny model says too little to tell: {kept[0][:6]}")
    if again != kept:
        turn = next(
            at
            for at, pair in enumerate(zip(kept, again, strict=True))
            if len({*map(tuple, pair)}) > 1
        )
        raise FailedError(f"swap: turn {turn + 1} has other tokens after it")
    return structs.replace(result, goes_on=True, appends=is_exact)


def _spoken(
    result: KindResult, record: ModelRecord, architecture: Architecture, home: Path
) -> KindResult:
    """A forced call where its format can be forced; reasoning where the template opens it."""
    probe = record.template
    if probe.tool_parser != architecture.calls or probe.tools != bool(architecture.calls):
        raise FailedError(f"speak: calls were taken for {probe.tool_parser or 'none'}")
    supervisor = FakeSupervisor(record, home / "spoken")
    supervisor.seat()
    plain = {"enable_thinking": False} if architecture.reasons else {}
    try:
        is_forced = False
        if probe.forces_calls:
            said = _said(supervisor, tools=(LOOK,), tool_choice="required", template_args=plain)
            is_forced = [call.name for call in said.tool_calls] == ["look"]
            if not is_forced:
                raise FailedError(f"speak: no call could be read: {said.text[:80]!r}")
        if architecture.reasons:
            _check_reasoning(supervisor, architecture.calls)
    finally:
        supervisor.unseat()
    return structs.replace(
        result, tools=architecture.calls, is_forced=is_forced, reasoning=architecture.reasons
    )


def _check_reasoning(supervisor: FakeSupervisor, calls: str) -> None:
    """What is written behind the mark that the template opened has to come as reasoning."""
    if calls == HARMONY:  # there the model opens it, which random weights do not
        said = collect_parts(parts_of(HARMONY, "<|channel|>analysis<|message|>Hm.<|end|>"))
    else:
        thinks = {"enable_thinking": True}
        said = _said(supervisor, template_args=thinks, sampling=Sampling())
    if not said.reasoning or said.text:
        raise FailedError(f"speak: reasoning came as text: {said.text[:80]!r}")


def _said(supervisor: FakeSupervisor, **options: object) -> Collected:
    # The bias ends the answer as soon as a grammar lets it end, and keeps it from reasoning.
    options.setdefault("sampling", Sampling(logit_bias=((END, 100.0), (THINK, -100.0))))
    outcome = supervisor.turn(ASK, max_tokens=200, **options)
    return collect_parts(
        part for one in outcome.emitted for part in (one.parts or text_part(one.text))
    )


def _adapted(record: ModelRecord, folder: Path, home: Path) -> bool:
    """True if it says something else with LoRA weights on its layers."""
    lora = make_lora(home / "lora", folder, layers=2)
    adapted = registered(folder, home, "adapted", adapter=lora)
    plain, changed = (
        _conversation(one, home / f"kv-{one.name}", leaves=False)[0] for one in (record, adapted)
    )
    return plain != changed
