"""A worker without mlx for fault tests: same process shell and link, faults by HOTSEAT_STUB.

Run as `python -m tests.support.stub_worker --link ... --epoch ... --token-fd ...`.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

from hotseat.protocol.ids import Epoch
from hotseat.protocol.installed_code import InstalledCode
from hotseat.protocol.link_reports import FromWorker, WorkerHello
from hotseat.worker import orphan, process
from hotseat.worker.process import exit_process, parse_arguments, run_worker
from tests.support.stub_worker.engine import StubEngine
from tests.support.stub_worker.faults import Trigger, fork_twice, read_faults


def stub_hello(secret: str, working_set_bytes: int | None = None) -> WorkerHello:
    return WorkerHello(
        pid=os.getpid(),
        token=secret,
        working_set_bytes=working_set_bytes,
        code=InstalledCode().read().digest,
    )


def main() -> None:
    faults = read_faults()

    trigger = Trigger(faults)
    if faults.wrong_secret:
        vars(process)["read_secret"] = lambda fd: orphan.read_secret(fd)[::-1]

    def load_libraries(secret: str) -> WorkerHello:
        if faults.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if faults.double_fork:
            fork_twice()
        time.sleep(faults.hello_s)  # the delay a test asked for
        trigger.reach("hello")
        return stub_hello(secret, faults.working_set_bytes)

    def build_engine(
        send: Callable[[FromWorker], None], epoch: Epoch, _wake: Callable[[], None]
    ) -> StubEngine:
        return StubEngine(send, epoch, trigger)

    exit_process(run_worker(parse_arguments(sys.argv[1:]), load_libraries, build_engine))


if __name__ == "__main__":
    main()
