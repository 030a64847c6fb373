"""Seats a model and shows the phases: `python swap.py MODEL`."""

import sys

from hotseat.client import Client
from hotseat.protocol.replies import Progress


def show(progress: Progress) -> None:
    """One line a phase note."""
    percent = "" if progress.percent is None else f" {progress.percent:.0f} %"
    print(f"{progress.phase}{percent}")


with Client(name="swap") as client:
    report = client.swap(sys.argv[1], on_progress=show)
    print(f"{report.from_ or 'nothing'} -> {report.to} in {report.total_s:.2f} s ({report.mode})")
    print(f"{report.sessions_checkpointed} sessions, {report.bytes_written} bytes written")
