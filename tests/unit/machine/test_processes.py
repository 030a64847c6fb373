"""Whether a process lives."""

import os
import subprocess
import sys

from hotseat.supervisor.machine.processes import is_alive


def test_process_is_alive_until_it_ends_and_not_while_it_waits_to_be_reaped():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert is_alive(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid)
    assert not is_alive(child.pid)
