"""Ranks models that fit for a purpose, by what was measured on this machine. Pure."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Final, Literal

from msgspec import Struct

from hotseat.cli.views.advice import Advice, Purpose, SwapBeside
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.scheduling.learned_costs import Costs, seconds_for

FIRST_PROMPT_TOKENS: Final = 20_000
"""About what coding agents send before the first word of their user."""
_MEASURED: Final = "measured"


class Wants(Struct, frozen=True, kw_only=True):
    """What a purpose needs of a model, to be called suitable."""

    context_tokens: int
    tools: bool
    first_prompt_s: float


WANTS: Final[Mapping[Purpose, Wants]] = {
    "coding-agent": Wants(context_tokens=32_768, tools=True, first_prompt_s=180.0),
    "chat": Wants(context_tokens=8_192, tools=False, first_prompt_s=180.0),
}


class Choice(Struct, frozen=True, kw_only=True):
    """A model that fits. `tells_tools`: its record knows whether calls could be read."""

    record: ModelRecord
    context_tokens: int
    is_registered: bool = False
    tells_tools: bool = True


def advise(purpose: Purpose, choices: Sequence[Choice], costs: Costs) -> tuple[Advice, ...]:
    """Suitable models first, larger ones before smaller ones, then by what they lack.

    Among equals the one that reads a first prompt sooner, then by name.
    """
    advice = [_judge(WANTS[purpose], choice, choices, costs) for choice in choices]
    return tuple(sorted(advice, key=_place))


def _place(one: Advice) -> tuple[int, int, float, str]:
    never = float("inf")
    soon = never if one.first_prompt_s is None else one.first_prompt_s
    return len(one.lacks), -one.parameters, soon, one.name


def _judge(wants: Wants, choice: Choice, choices: Sequence[Choice], costs: Costs) -> Advice:
    record = choice.record
    first_s, basis = first_prompt(choice, choices, costs)
    tools = tools_of(choice)
    others = sorted(
        str(other.record.name)
        for other in choices
        if other.is_registered and other.record.name != record.name
    )
    return Advice(
        name=record.name,
        is_registered=choice.is_registered,
        parameters=record.parameters,
        context_tokens=choice.context_tokens,
        tools=tools,
        first_prompt_s=first_s,
        basis=basis,
        swaps=tuple(
            SwapBeside(model=other, there_s=costs.swap_to(other), back_s=costs.swap_to(record.name))
            for other in others
        ),
        lacks=_lacks(wants, choice.context_tokens, tools, first_s),
        path=record.path,
    )


def tools_of(choice: Choice) -> Literal["yes", "no", "unknown"]:
    """Whether its template shows tools and its calls can be read."""
    if not choice.tells_tools:
        return "unknown"
    template = choice.record.template
    is_read = bool(template.tool_parser) or not choice.is_registered
    return "yes" if template.tools and is_read else "no"


def _lacks(wants: Wants, context: int, tools: str, first_s: float | None) -> tuple[str, ...]:
    lacks = []
    if wants.tools and tools != "yes":
        lacks.append("tools" if tools == "no" else "tools, unless its template has them")
    if context < wants.context_tokens:
        lacks.append(f"context of {wants.context_tokens:,} tokens")
    if first_s is not None and first_s > wants.first_prompt_s:
        lacks.append(f"a first prompt within {wants.first_prompt_s:.0f} s")
    return tuple(lacks)


def first_prompt(
    choice: Choice, choices: Sequence[Choice], costs: Costs
) -> tuple[float | None, str]:
    """Seconds for 20,000 new tokens, and what they come from.

    What was never measured is taken from the measured model nearest in size: reading a prompt
    costs as many multiplications as there are parameters. Experts that rest make it less.
    """
    own = costs.of(choice.record.name).prefill_tokens_per_s if choice.is_registered else None
    if own:
        return seconds_for(FIRST_PROMPT_TOKENS, own), _MEASURED
    size = choice.record.parameters
    known = [
        (abs(log(other.record.parameters / size)), str(other.record.name), other.record, rate)
        for other in choices
        if other.is_registered
        and other.record.parameters > 0
        and size > 0
        and (rate := costs.of(other.record.name).prefill_tokens_per_s)
    ]
    if not known:
        return None, ""
    _, name, nearest, rate = min(known, key=lambda entry: entry[:2])
    limit = " at most, it has experts that rest" if choice.record.experts else ""
    seconds = seconds_for(FIRST_PROMPT_TOKENS, rate * nearest.parameters / size)
    return seconds, f"estimated by size from what was measured of {name}{limit}"
