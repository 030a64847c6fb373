"""The whole gateway against its own description: whatever fits it, and what nearly does.

`make http-schema`; `--cases N` in all. No status of a defect, no answer without words.
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from types import SimpleNamespace

import psutil
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from hotseat.protocol.limits import MIB
from tests.faults.test_row_12_fuzzing_over_http import GROWTH, MODELS, SETTINGS, complaint
from tests.support.daemons.gateways import Gateway
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.real_home import tiny_daemon

CASES = 10_000
LITTLE = 50
PLAIN = ("/metrics",)
"""Answers that are no JSON."""


def ask_path(operation, headers, cases, mode, found):
    """`cases` requests of one kind to one path; statuses and complaints go to `found`."""

    @seed(12)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        told = case.call(headers=headers, timeout=60)
        first = {name: values[0] for name, values in told.headers.items()}
        answer = SimpleNamespace(
            status_code=told.status_code, headers=first, text=told.text, json=told.json
        )
        found[operation.path, answer.status_code] += 1
        if operation.path in PLAIN or not told.content:
            wrong = "no words" if answer.status_code >= 500 else ""
        else:
            try:
                wrong = complaint(operation.path, answer)
            except (ValueError, AttributeError) as error:
                wrong = f"{error!r} in {answer.status_code} {answer.text[:200]!r}"
        if wrong:
            found[f"{operation.method} {operation.path}: {wrong}"] += 1
            print(wrong, operation.path, str(case.body)[:500])

    with contextlib.suppress(Unsatisfiable):  # nothing of a path without a body can be wrong
        ask()


def main():
    """Asks; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    cases = parser.parse_args().cases
    found = Counter()
    with tiny_daemon(MODELS, SETTINGS) as daemon, Gateway(daemon.home) as gateway:
        with daemon.client() as client:
            client.swap("agent")
        schema = schemathesis.openapi.from_url(
            f"{gateway.url}/openapi.json", headers=gateway.headers
        )
        operations = [result.ok() for result in schema.get_all_operations()]
        with_body = [operation for operation in operations if operation.body]
        process = psutil.Process(gateway.process.pid)
        before = process.memory_full_info().uss
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for operation in operations:
            for mode in modes:
                # The others have little that can vary, and hypothesis ends by itself.
                most = cases // (len(modes) * len(with_body)) if operation in with_body else LITTLE
                began = time.monotonic()
                ask_path(operation, gateway.headers, max(1, most), mode, found)
                took_s = time.monotonic() - began
                print(f"{operation.label}, {mode.value}: {took_s:.1f} s", flush=True)
        with daemon.client() as client:
            wait_for(lambda: client.status().queue.running == 0, what="nothing stays")
        grown = process.memory_full_info().uss - before
    for what, count in sorted(found.items(), key=str):
        print(f"{count:7}  {what}")
    asked = sum(count for what, count in found.items() if isinstance(what, tuple))
    wrong = any(isinstance(what, str) for what in found) or grown > GROWTH
    print(f"{asked} cases, memory {grown / MIB:+.1f} MiB of at most {GROWTH / MIB:.0f}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
