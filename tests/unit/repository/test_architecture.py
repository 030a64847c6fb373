"""ARCHITECTURE.md draws the seat as its table is: every transition, and none that does not exist.

The transitions are found by walking the table: from the first state, every event that can come,
until no new state appears. Written anew on purpose:
`python tests/unit/repository/test_architecture.py --write`.
"""

import re
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import get_args

from msgspec import inspect as mi
from msgspec.structs import replace

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.settings.values import Deadlines

PAGE = Path(__file__).parents[3] / "ARCHITECTURE.md"
DIAGRAM = re.compile(
    r"(<!-- seat -->\n```mermaid\nstateDiagram-v2\n)(.*?)(```\n<!-- end -->)", re.DOTALL
)
ARROW = re.compile(r"^\s+(\S+) --> (\S+): (.+)$", re.MULTILINE)
LIMITS = Deadlines()
MOST_DEATHS = 10
"""More than the table ever counts before it gives a model up."""
CAUSE = Cause(client="c", request_id="r", model_asked="m")
FAULT = Fault(code="worker_lost", message="gone")
ORDER = [phase.name for phase in Phase]


def variants(cls, epoch, *, exits):
    """All values of a struct as far as the table can tell them apart; found from its fields."""
    choices = {}
    for field in mi.type_info(cls).fields:
        kind = field.type
        match field.name:
            case "epoch":
                choices[field.name] = [epoch]
            case "plan":
                choices[field.name] = variants(SwapPlan, epoch, exits=exits)
            case "exits":
                choices[field.name] = [exits]
            case "target":  # two models are enough: the seated one and another
                choices[field.name] = [None] if exits else ["a", "b", None]
            case "cause":
                choices[field.name] = [CAUSE]
            case "swap":
                choices[field.name] = [1]
            case "fault":
                choices[field.name] = [FAULT] if field.required else [None, FAULT]
            case _ if isinstance(kind, mi.LiteralType):
                choices[field.name] = list(kind.values)
            case _:
                assert not field.required, f"no values for {cls.__name__}.{field.name}"
    return [cls(**dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def events(epoch):
    """Every event the table knows, in the current epoch."""
    return [
        event
        for cls in get_args(t.SeatEvent)
        for event in variants(cls, epoch, exits=cls is t.ExitAsked)
    ]


def timeless(state):
    """The state without what only grows: clocks, numbers, what was counted for quarantine."""
    return replace(
        state,
        since=0.0,
        seated_at=0.0,
        epoch=0,
        marks=(),
        misses=(),
        deadline=None if state.deadline is None else 1.0,
        deaths=state.deaths[:MOST_DEATHS],
        plan=None if state.plan is None else replace(state.plan, swap=1),
    )


@cache
def transitions():
    """(phase before, phase after) -> names of the events that lead there."""
    found = {}
    seen = set()
    todo = [SeatState()]
    while todo:
        state = todo.pop()
        key = repr(state)
        if key in seen:
            continue
        seen.add(key)
        for event in events(state.epoch):
            after, _ = next_state(state, event, 1.0, LIMITS)
            if after.phase is not state.phase:
                pair = (state.phase.name, after.phase.name)
                found.setdefault(pair, set()).add(type(event).__name__)
            todo.append(timeless(after))
    return found


def drawn():
    block = DIAGRAM.search(PAGE.read_text(encoding="utf-8"))
    assert block is not None, "ARCHITECTURE.md has no diagram of the seat"
    arrows = [found for found in ARROW.findall(block[2]) if found[0] != "[*]"]
    return {(start, end): set(names.split(", ")) for start, end, names in arrows}


def test_every_phase_is_reached():
    assert {name for pair in transitions() for name in pair} == set(ORDER)


def test_diagram_names_exactly_the_transitions_of_the_table():
    assert drawn() == transitions(), "run this file with --write"


def write():
    """Draws the table anew."""
    lines = ["    [*] --> EMPTY: daemon started\n"]
    pairs = sorted(transitions().items(), key=lambda item: [ORDER.index(name) for name in item[0]])
    lines += [f"    {a} --> {b}: {', '.join(sorted(names))}\n" for (a, b), names in pairs]
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(DIAGRAM.sub(lambda f: f[1] + "".join(lines) + f[3], page), encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
