"""Whether a process lives, and how many files this one may open."""

import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.machine.processes import files_allowed, is_alive, raise_open_files

NO_LIMIT = resource.RLIM_INFINITY


def test_process_is_alive_until_it_ends_and_not_while_it_waits_to_be_reaped():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert is_alive(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid)
    assert not is_alive(child.pid)


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        (256, NO_LIMIT, 8192),  # a terminal of macOS
        (256, 4096, 4096),
        (1024, 1_048_576, 8192),
        (8192, 8192, 8192),  # launchd, by our own job
        (65_536, 65_536, 65_536),
        (NO_LIMIT, NO_LIMIT, NO_LIMIT),
    ],
)
def test_soft_limit_of_files_is_raised_as_far_as_is_wanted_and_allowed(soft, hard, limit):
    assert files_allowed(soft, hard, 8192) == limit


@given(st.integers(1, 2**20), st.integers(0, 2**20), st.integers(1, 2**20))
def test_limit_of_files_never_falls_and_stays_within_the_hard_one(soft, more, wanted):
    assert soft <= files_allowed(soft, soft + more, wanted) <= soft + more


def test_limit_of_this_process_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert raise_open_files(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
