"""Command `doctor`: looks at what has to be right, names what is not, with the remedy."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_result


@click.command()
@JSON
def doctor(*, as_json: bool) -> int:
    """Look for what is wrong with this installation; each finding has its remedy.

    Changes nothing, and works without a daemon. Exit code 1 if something is bad.
    """
    from hotseat.cli.checks.all_checks import run_checks
    from hotseat.cli.terminal.findings import render_findings, worst

    findings = list(run_checks())
    plain = {"level": worst(findings), "findings": findings}
    show_result(findings, render_findings, as_json=as_json, plain=plain)
    return 1 if worst(findings) == "failed" else 0
