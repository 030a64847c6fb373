"""What holds for every test: the same examples on every machine, and signals that arrive.

A red run can be repeated; `make explore` draws new examples each time, and that is where new
counter-examples come from. No example has a time limit: how long one takes says what else the
machine does.
"""

import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

MARKER = "needs_linux"

UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("fixed", derandomize=True, print_blob=True, **UNTIMED)
settings.register_profile("explore", print_blob=True, **UNTIMED)
settings.load_profile("fixed")

# A shell's background job ignores it, and programs started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The one way in which a test is left out on a Mac, with its reason."""
    for item in items:
        for mark in item.iter_markers(MARKER):
            if reason := reason_to_skip(mark, sys.platform):
                item.add_marker(pytest.mark.skip(reason=reason))


def reason_to_skip(mark, system):
    """Empty where it runs. Every use of the marker says what of Linux is needed."""
    if len(mark.args) != 1:
        raise TypeError(f"{MARKER} takes one reason, not {mark.args}")
    return "" if system == "linux" else f"only on Linux: {mark.args[0]}"
