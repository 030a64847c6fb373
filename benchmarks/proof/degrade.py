"""What every arm does as memory shrinks: a limit from 2.0 down to 0.6 of the largest model.

Linux and root. Below 1.0 a model is larger than its limit: hotseat reads a part of it as it is
needed or refuses with the numbers, and a row says which. Options and results as of `chaos`.
"""

from collections.abc import Sequence

from benchmarks.proof.chaos import experiment, parser

RATIOS = (2.0, 1.75, 1.5, 1.25, 1.1, 1.0, 0.8, 0.6)
QUICK_RATIOS = (1.0, 0.8, 0.6)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints a row for each arm and limit; 2 where the machine cannot do it."""
    made = parser("degrade", __doc__, n=1)
    made.set_defaults(arms=["kept", "hotseat"])
    options = made.parse_args(arguments)
    return experiment(options, "degrade", QUICK_RATIOS if options.quick else RATIOS)
