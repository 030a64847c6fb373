"""A worker without mlx for fault tests: same process shell and link, faults by HOTSEAT_STUB.

Run as `python -m tests.support.stub_worker --link ... --epoch ... --token-fd ...`.
"""

import signal
import sys
import time
from collections.abc import Callable

from hotseat.protocol.ids import Epoch
from hotseat.protocol.link import FromWorker
from hotseat.worker import orphan, process
from hotseat.worker.process import Libraries, exit_process, parse_arguments, run_worker
from tests.support.stub_worker.engine import StubEngine
from tests.support.stub_worker.faults import Trigger, fork_twice, read_faults


def main() -> None:
    faults = read_faults()

    trigger = Trigger(faults)
    if faults.wrong_secret:
        vars(process)["read_secret"] = lambda fd: orphan.read_secret(fd)[::-1]

    def load_libraries() -> Libraries:
        if faults.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if faults.double_fork:
            fork_twice()
        time.sleep(faults.hello_s)
        trigger.reach("hello")
        return Libraries(mlx_version="stub", mlx_lm_version="stub")

    def build_engine(
        send: Callable[[FromWorker], None], epoch: Epoch, _wake: Callable[[], None]
    ) -> StubEngine:
        return StubEngine(send, epoch, trigger)

    exit_process(run_worker(parse_arguments(sys.argv[1:]), load_libraries, build_engine))


if __name__ == "__main__":
    main()
