"""Numbers of the real machine, and the macOS calls against a made-up libproc."""

import ctypes
import mmap
import os
import subprocess
import sys

import psutil
from tests.support.peers.mac_host import mac_host

from hotseat.protocol.limits import MIB
from hotseat.supervisor.machine.memory import MacProbe, RusageInfoV0, largest_holders, system_probe


class FakeLibproc:
    """`proc_pid_rusage` for one process."""

    def __init__(self, pid, footprint):
        self._pid = pid
        self._footprint = footprint
        self.flavors = []

    def proc_pid_rusage(self, pid, flavor, buffer):
        self.flavors.append(flavor)
        if pid != self._pid:
            return -1
        info = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint64))
        # 16 bytes of uuid, then 64-bit fields; ri_phys_footprint is the eighth of them.
        info[2 + 7] = self._footprint
        return 0


def test_struct_has_the_layout_of_the_header():
    assert ctypes.sizeof(RusageInfoV0) == 16 + 10 * 8
    assert RusageInfoV0.ri_phys_footprint.offset == 16 + 7 * 8


def test_mac_footprint_is_phys_footprint():
    libproc = FakeLibproc(77, 12 * MIB)
    probe = MacProbe(libproc, mac_host())
    assert probe.footprint(77) == 12 * MIB
    assert probe.footprint(78) is None
    assert set(libproc.flavors) == {0}


def test_mac_pressure_is_the_kernels_level():
    assert MacProbe(FakeLibproc(1, 1), mac_host(level=4)).pressure() == 4
    assert MacProbe(FakeLibproc(1, 1), mac_host(level=None)).pressure() is None


def test_machine_has_less_available_than_in_total():
    memory = system_probe().machine()
    assert 0 < memory.available_bytes <= memory.total_bytes


def test_total_memory_is_the_one_that_psutil_knows():
    assert system_probe().machine().total_bytes == psutil.virtual_memory().total


def test_footprint_follows_what_a_process_holds():
    probe = system_probe()
    before = probe.footprint(os.getpid())
    with mmap.mmap(-1, 32 * MIB) as block:
        block.write(b"x" * (32 * MIB))
        grown = probe.footprint(os.getpid()) - before
    assert 30 * MIB <= grown <= 40 * MIB


def test_ended_process_has_no_footprint():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert system_probe().footprint(child.pid) is None


def test_holders_are_sorted_and_leave_out_whom_we_name():
    every = largest_holders(1000)
    sizes = [holder.size_bytes for holder in every]
    assert sizes == sorted(sizes, reverse=True)
    assert len(largest_holders(2)) <= 2
    without = largest_holders(1000, exclude=[os.getpid()])
    assert sum(holder.size_bytes for holder in without) < sum(sizes)


def test_holders_use_the_footprint_where_there_is_one():
    held = largest_holders(1000, measure=lambda pid: MIB if pid == os.getpid() else None)
    plain = {holder.name: holder.size_bytes for holder in largest_holders(1000)}
    assert any(holder.size_bytes < plain.get(holder.name, 0) for holder in held)
