"""Fault switches of the stub worker, from the environment variable HOTSEAT_STUB (JSON).

Top-level keys are the fields of `Faults`; `{"models": {"b": {...}}}` overrides them while the
model of that name is loaded. `once_file` arms `die_at`, `fail_load`, `hang_at` and
`checkpoint_fail` only in the process that manages to create that file.

`hold_dir` is a folder in which tests say where to stay: while it has a file that is named after a
point, the worker goes no further than that point. "token" is the one place where it goes on hearing
messages: every request stays behind its first token.

Other sleeps in the stub wait for nothing: `*_s` is how long the work takes that it stands for, and
an hour at a time is a worker that hangs.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

VARIABLE = "HOTSEAT_STUB"
Point = Literal[
    "",
    "hello",
    "load",
    "warm",
    "start",
    "lookup",
    "first_token",
    "token_n",
    "finish",
    "checkpoint",
    "stop",
]


HoldPoint = Point | Literal["token"]
LOOK_S = 0.005
"""Between two looks whether a hold is over."""


RaiseKind = Literal["defect", "memory", "gpu"]
METAL_ERROR = (
    "[METAL] Command buffer execution failed: Ignored (for causing prior/excessive GPU errors) "
    "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
)
"""What mlx raises where the GPU fails."""
RAISED: dict[RaiseKind, Exception] = {
    "defect": KeyError("stub"),
    "memory": MemoryError("stub"),
    "gpu": RuntimeError(METAL_ERROR),
}


class LoadFault(Struct, frozen=True):
    code: str = "model_unavailable"
    message: str = "weights are damaged (stub)"
    permanent: bool = True


class Faults(Struct, frozen=True):
    # pace
    hello_s: float = 0.0
    load_s: float = 0.02
    warm_s: float = 0.0
    checkpoint_s: float = 0.0
    stop_s: float = 0.0
    slow_token_s: float = 0.0
    prefill_s: float = 0.0  # per chunk of 256 tokens
    reply_tokens: int = 24  # the stub's own end of turn, unless max_tokens comes first
    working_set_bytes: int | None = None  # what Metal would let it wire
    unwire_s: float | None = None  # what giving wired pages back to Metal would take
    # failures that are answered
    fail_load: bool | LoadFault = False
    fail_warm: bool | LoadFault = False
    checkpoint_fail: bool | str = False  # True: disk_full
    break_request: bool | str = False  # True: internal
    refuse: str = ""
    # failures that are not
    die_at: Point = ""
    token_n: int = 5
    exit_code: int | None = None
    signal: int | None = None  # default: SIGKILL
    stderr: str = ""  # written before dying
    raise_at: Point = ""  # an exception out of the engine
    raise_kind: RaiseKind = "defect"
    hang_load: bool = False
    hang_at: Point = ""  # compute thread only: beats go on, `step` stands still
    freeze_at: Point = ""  # GIL held in a C call: not even beats
    ignore_sigterm: bool = False
    double_fork: bool = False  # a grandchild that is nobody's child and ignores signals
    exhaust_at: Point = ""  # RLIMIT_AS, then more memory than that
    ignore_stop: bool = False
    unload_keeps_memory: bool = False
    ignore_suspend: bool = False
    ignore_shrink: bool = False
    wrong_secret: bool = False
    lie_token_at: int = -1  # emits another id at this position (tests of the tests)
    # KV
    kv: Literal["files", "none"] = "files"
    once_file: str = ""
    hold_dir: str = ""
    models: dict[str, dict[str, Any]] = {}


def read_faults() -> Faults:
    return msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Faults)


class Trigger:
    """Carries out what the faults say at a named point."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._is_armed: bool | None = None

    def for_model(self, model: str) -> "Trigger":
        """The same with the overrides of `models`."""
        override = self.faults.models.get(model)
        if override is None:
            return self
        return Trigger(msgspec.convert(msgspec.to_builtins(self.faults) | override, Faults))

    def is_armed(self) -> bool:
        """True unless another process used up `once_file`."""
        if self._is_armed is None:
            self._is_armed = not self.faults.once_file or _create(Path(self.faults.once_file))
        return self._is_armed

    def is_held(self, point: HoldPoint) -> bool:
        return bool(self.faults.hold_dir) and (Path(self.faults.hold_dir) / point).exists()

    def reach(self, point: Point) -> None:
        """Stays here while it is held; dies, hangs or freezes here if told so."""
        faults = self.faults
        while self.is_held(point):
            time.sleep(LOOK_S)  # between two looks
        if faults.die_at == point and self.is_armed():
            sys.stderr.write(faults.stderr)
            sys.stderr.flush()
            if faults.exit_code is not None:
                os._exit(faults.exit_code)
            os.kill(os.getpid(), faults.signal or 9)
        if faults.raise_at == point and self.is_armed():
            raise RAISED[faults.raise_kind]
        if (faults.hang_at == point or (point == "load" and faults.hang_load)) and self.is_armed():
            while True:
                time.sleep(3600)  # has to live until it is killed
        if faults.freeze_at == point and self.is_armed():
            freeze()
        if faults.exhaust_at == point and self.is_armed():
            exhaust_memory()


def freeze() -> None:
    """Keeps the GIL for ever, as native code that is stuck does; no signal ends the wait."""
    native = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)
    native.pthread_mutex_init(mutex, None)
    native.pthread_mutex_lock(mutex)
    native.pthread_mutex_lock(mutex)


def exhaust_memory() -> None:
    """The OS refuses an allocation, for real."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(1 << 31)


def fork_twice() -> None:
    """Leaves a process that nobody waits for: it has no parent here and ignores what it can."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(3600)  # has to live until it is killed


def _create(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
