"""How the end of a worker process is named. Pure."""

import re
import signal
from collections.abc import Sequence
from typing import Final

from hotseat.protocol.exits import EX_GPU, EX_WEIGHTS, PERMANENT, exit_meaning
from hotseat.supervisor.seat.rules.states import Fault

_QUOTED_LINES = 5
_SAID_BY: Final = "worker: "
_METAL_ERROR: Final = re.compile(r"kIOGPUCommandBufferCallbackError(\w+)")
_WORD: Final = re.compile(r"[A-Z][a-z0-9]*")


def describe_exit(
    returncode: int, sent: Sequence[int], stderr: Sequence[str], *, epoch: int, model: str = ""
) -> Fault:
    """The fault of a worker that ended; `sent` are the signals we sent it ourselves.

    `model`: what had the seat, if anything had.
    """
    facts = {"epoch": epoch, "returncode": returncode, "stderr": list(stderr[-_QUOTED_LINES:])}
    if returncode < 0:
        name = _signal_name(-returncode)
        by_system = False
        if -returncode in sent:
            text = f"worker ended by our {name}"
        elif -returncode == signal.SIGKILL:
            by_system = True
            text = "worker was killed by the system or by hand (SIGKILL that hotseat did not send)"
        else:
            text = f"worker crashed ({name})"
        facts["signal"] = name
        return Fault(code="worker_lost", message=text, by_system=by_system, facts=facts)
    if returncode == EX_GPU:
        gpu = gpu_reason(stderr)
        text = f"the worker {exit_meaning(returncode)} ({gpu}); if that goes on, restart the Mac"
        facts["gpu"] = gpu
        return Fault(code="worker_lost", message=text, gpu=gpu, facts=facts)
    if returncode == EX_WEIGHTS:
        reason = stderr[-1].removeprefix(_SAID_BY) if stderr else "no reason was given"
        text = (
            f"weights of {model or 'the model'} cannot be read: {reason}; put the file back as it"
            " was, or import the model again"
        )
        return Fault(code="model_unavailable", message=text, by_disk=True, facts=facts)
    last = f": {stderr[-1]}" if stderr and returncode else ""
    return Fault(
        code="worker_lost",
        message=f"the worker {exit_meaning(returncode)}{last}",
        permanent=returncode in PERMANENT,
        facts=facts,
    )


def gpu_reason(stderr: Sequence[str]) -> str:
    """What class of error Metal told, from the worker's last words: `submissions ignored`."""
    found = _METAL_ERROR.findall("\n".join(stderr))
    if not found:
        return "command buffer: another error"
    words = _WORD.findall(found[-1]) or [found[-1]]
    return f"command buffer: {' '.join(words).lower()}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
