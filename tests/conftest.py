"""Property tests draw the same examples on every machine, so that a red run can be repeated.

`make explore` draws new ones each time: that is where new counter-examples come from.
"""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("fixed")
