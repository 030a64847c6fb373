"""Turns in a process of their own that dies by SIGKILL while it decodes the next answer."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from hotseat.protocol.link_reports import Emitted
from hotseat.protocol.model import ModelRecord
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.support.engine.engine_harness"])
_KEPT = ("blocks", "tails", "hints", "contexts", "epoch", "asked")
DEADLINE_S = 60.0


def turn_then_kill(record: ModelRecord, kv_dir: Path, kept: dict, prompt: list[int], answer: int):
    """One turn of session "s" in a fresh process; its tokens, and what a supervisor knows then.

    Killed in the middle of another session's answer: nothing is closed, flushed or checkpointed.
    """
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_run, args=(theirs, record, kv_dir, kept, prompt, answer))
    process.start()
    theirs.close()
    try:
        if not ours.poll(DEADLINE_S):
            raise AssertionError(f"no turn within {DEADLINE_S} s")
        return ours.recv()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL


def _run(
    pipe: Connection, record: ModelRecord, kv_dir: Path, kept: dict, prompt: list[int], answer: int
) -> None:
    supervisor = FakeSupervisor(record, kv_dir)
    for name, value in kept.items():
        setattr(supervisor, name, value)
    supervisor.seat()
    outcome = supervisor.turn(prompt, "s", max_tokens=answer)
    known = {name: getattr(supervisor, name) for name in _KEPT}
    other = supervisor.start(prompt_tokens(70, supervisor.asked), "other", max_tokens=4000)
    supervisor.until(Emitted, other)
    pipe.send((outcome.tokens, outcome.started, known))
    while True:
        supervisor.advance()
