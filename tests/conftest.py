"""What holds for every test: the same examples on every machine, and signals that arrive.

A red run can be repeated; `make explore` draws new examples each time, and that is where new
counter-examples come from.
"""

import signal

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("fixed")

# A shell's background job ignores it, and programs started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
