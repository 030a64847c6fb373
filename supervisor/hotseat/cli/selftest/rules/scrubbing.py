"""Takes out of a text what nobody else has to know: names of user and machine, paths.

Must not know where the text comes from.
"""

import re
from collections.abc import Collection

from msgspec.structs import replace

from hotseat.cli.selftest.rules.results import Result
from hotseat.protocol.selftest import Absent, Fact

_PATH = re.compile(r"(?:~|[A-Za-z]:)?[^\s'\"(),;=]*/[^'\"(),;]*")
_SHOWN = 300


def scrubbed(text: str, names: Collection[str]) -> str:
    """The text without `names` as whole words, and without anything that has a slash.

    A path may hold blanks, so all up to the next mark of punctuation goes with it.
    """
    found = _PATH.sub("[path]", text)
    for name in sorted(filter(None, names), key=len, reverse=True):
        word = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        found = re.sub(word, "[name]", found, flags=re.IGNORECASE)
    return found[:_SHOWN]


def scrubbed_result(result: Result, names: Collection[str]) -> Result:
    """The same for all that a process wrote; what the plan says is our own."""
    return replace(
        result,
        reason=scrubbed(result.reason, names),
        facts=tuple(
            Fact(name=fact.name, value=scrubbed(fact.value, names)) for fact in result.facts
        ),
        absent=tuple(
            Absent(name=one.name, reason=scrubbed(one.reason, names)) for one in result.absent
        ),
    )
