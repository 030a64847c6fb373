"""What an unload is judged by: the kernel's own number on a Mac, and when it is asked for."""

import ctypes
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.limits import GIB, MIB
from hotseat.worker.model.footprint import MacFootprint, footprint_after, linux_footprint


class FakeLibproc:
    """`proc_pid_rusage` of this process: what Metal holds is in the footprint alone."""

    def __init__(self, footprint, *, refuses=False):
        self.footprint = footprint
        self.refuses = refuses

    def proc_pid_rusage(self, pid, flavor, buffer):
        assert (pid, flavor) == (os.getpid(), 0)
        if self.refuses:
            return -1
        assert ctypes.sizeof(buffer._obj) == 16 + 10 * 8
        words = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint64))
        words[2 + 6] = 193 * MIB  # ri_resident_size, as of a process that holds 30 GiB
        words[2 + 7] = self.footprint
        return 0


def test_footprint_of_a_mac_counts_what_metal_holds():
    assert MacFootprint(FakeLibproc(30 * GIB))() == 30 * GIB


def test_kernel_that_refuses_leaves_the_unique_set():
    assert MacFootprint(FakeLibproc(0, refuses=True))() > MIB


class Late:
    """A footprint that falls only at the third look."""

    def __init__(self, before, after, looks=3):
        self.looks = looks
        self.before, self.after = before, after

    def __call__(self):
        self.looks -= 1
        return self.after if self.looks <= 0 else self.before


def test_buffers_that_metal_gives_back_late_are_waited_for():
    measure = Late(9 * GIB, GIB)
    assert footprint_after(8 * GIB, 9 * GIB, measure, wait_s=60.0) == GIB


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
def test_memory_that_stays_is_told_when_time_is_up(wait_s):
    assert footprint_after(8 * GIB, 9 * GIB, lambda: 9 * GIB, wait_s) == 9 * GIB


def test_wait_is_over_as_soon_as_all_but_a_hundredth_is_back():
    measure = Late(9 * GIB, GIB + 80 * MIB, looks=1)
    assert footprint_after(8 * GIB, 9 * GIB, measure, wait_s=60.0) == GIB + 80 * MIB
    assert measure.looks == 0


@given(st.integers(0, GIB), st.integers(0, GIB))
def test_linux_looks_once_whatever_it_finds(freed, before):
    looks = []
    footprint_after(freed, before, lambda: looks.append(1) or GIB * 2, wait_s=0.0)
    assert len(looks) == 1


# The number of macOS has its own tests, with what the kernel would answer.
@pytest.mark.needs_linux("/proc has the number")
def test_footprint_of_this_process_is_measured_on_linux():
    assert linux_footprint() > MIB
