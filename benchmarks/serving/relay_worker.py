"""A worker for the relay benchmark: the stub, whose text is the time at which it was sent.

Started by the daemon; sends one message a token, at a pace or as fast as it can. `HOTSEAT_RELAY`:
seconds between tokens.
"""

import os
import sys
import time

from tests.support.stub_worker.__main__ import stub_hello
from tests.support.stub_worker.batch import Batch
from tests.support.stub_worker.engine import StubEngine
from tests.support.stub_worker.faults import Trigger, read_faults

from hotseat.protocol.link_reports import Emitted
from hotseat.worker.process import exit_process, parse_arguments, run_worker

FLOOD_STEP = 8
"""Tokens of one step when there is no pace: the loop looks for messages between steps."""


class RelayBatch(Batch):
    """Draws nothing: its tokens are counters."""

    _next_at = 0.0

    def _emit(self, turn):
        # Even seeds go at a pace, odd ones do not.
        pace_s = float(os.environ["HOTSEAT_RELAY"]) if turn.start.seed % 2 == 0 else 0.0
        for _ in range(1 if pace_s else FLOOD_STEP):
            if pace_s:
                time.sleep(max(0.0, self._next_at - time.monotonic()))
                self._next_at = max(self._next_at, time.monotonic() - pace_s) + pace_s
            if turn.emitted >= turn.start.max_tokens:
                break
            turn.ids.append(7)
            turn.emitted += 1
            text = f"{time.monotonic_ns()} "
            turn.text += text
            self._send(Emitted(request=turn.start.request, tokens=(7,), text=text))
        if turn.emitted >= turn.start.max_tokens:
            self._finish(turn, "length", limit="max_tokens")


def main() -> None:
    def build(send, epoch, _wake):
        return StubEngine(send, epoch, Trigger(read_faults()), RelayBatch)

    exit_process(run_worker(parse_arguments(sys.argv[1:]), stub_hello, build))


if __name__ == "__main__":
    main()
