"""What holds for every test: the same examples on every machine, and signals that arrive.

A red run can be repeated; `make explore` draws new examples each time, and that is where new
counter-examples come from. No example has a time limit: how long one takes says what else the
machine does.
"""

import signal

from hypothesis import HealthCheck, settings

UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("fixed", derandomize=True, print_blob=True, **UNTIMED)
settings.register_profile("explore", print_blob=True, **UNTIMED)
settings.load_profile("fixed")

# A shell's background job ignores it, and programs started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
