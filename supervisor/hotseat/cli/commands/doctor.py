"""Command `doctor`: looks at what has to be right, names what is not, with the remedy."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import print_json


@click.command()
@JSON
def doctor(*, as_json: bool) -> int:
    """Look for what is wrong with this installation; each finding has its remedy.

    Changes nothing, and works without a daemon. Exit code 1 if something is bad.
    """
    from hotseat.cli.checks.all_checks import run_checks
    from hotseat.cli.terminal.findings import render_findings, worst

    findings = list(run_checks())
    if as_json:
        print_json({"level": worst(findings), "findings": findings})
    else:
        render_findings(findings)
    return 1 if worst(findings) == "failed" else 0
