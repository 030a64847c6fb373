"""Memory touched ahead of a load: held, lent, let go of. Real pages of this process' heap."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import wait_for as until

from hotseat.protocol.limits import MIB
from hotseat.worker.model.touched_memory import BlankMemory

pytestmark = pytest.mark.needs_linux("blank memory is held in glibc's heap")
SIZE = 64 * MIB
PLENTY = 1024 * MIB


def resident_bytes():
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096


def held(blank):
    until(lambda: blank.held_bytes >= SIZE - 2 * MIB)
    return blank


def test_held_memory_is_touched_and_given_back_at_zero():
    # What other tests freed may still be resident, and would be held without being touched anew.
    ctypes.CDLL(None).malloc_trim(0)
    before = resident_bytes()
    blank = BlankMemory(lambda: PLENTY)
    blank.hold(SIZE, 0)
    held(blank)
    assert resident_bytes() - before > SIZE * 0.9

    blank.hold(0, 0)

    until(lambda: blank.held_bytes == 0)
    until(lambda: resident_bytes() - before < SIZE * 0.2)
    blank.close()


def test_room_below_the_floor_is_not_touched():
    blank = BlankMemory(lambda: PLENTY)
    asked = []
    blank._available = lambda: asked.append(1) or SIZE

    blank.hold(SIZE, MIB)

    until(lambda: asked)
    assert blank.held_bytes == 0
    blank.close()


def test_memory_that_falls_below_the_floor_is_let_go_of():
    available = [PLENTY]
    blank = BlankMemory(lambda: available[0])
    blank.hold(SIZE, 100 * MIB)
    held(blank)

    available[0] = 99 * MIB

    until(lambda: blank.held_bytes == 0)
    blank.close()


def test_memory_that_was_lent_is_not_held_again():
    blank = BlankMemory(lambda: PLENTY)
    blank.hold(SIZE, 0)
    held(blank)
    with blank.lent():
        pass
    blank.hold(SIZE, 0)
    assert (blank.held_bytes, blank._address) == (0, 0)


def test_new_order_in_the_middle_of_touching_replaces_the_block():
    blank = BlankMemory(lambda: PLENTY)
    for size in (4 * SIZE, 2 * SIZE, SIZE):
        blank.hold(size, 0)
    held(blank)
    assert blank.held_bytes <= SIZE
    blank.close()
    assert blank.held_bytes == 0


def test_a_lent_load_faults_no_pages():
    """In a process of its own, whose heap nothing else uses."""
    found = subprocess.run(
        [sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=60, check=True
    )
    faults, left, held_after = (int(part) for part in found.stdout.split())
    assert faults < SIZE // 4096 // 20
    assert left == 0
    assert held_after == 0


_LOAD = f"""
import ctypes, resource, threading, time
from hotseat.worker.model.touched_memory import BlankMemory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
blank = BlankMemory(lambda: {PLENTY})
blank.hold({SIZE + 8 * MIB}, 0)
while blank.held_bytes < {SIZE + 6 * MIB}:
    time.sleep(0.01)  # between two looks at what is held
faults = []
def fill(address):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ctypes.memset(address, 1, {4 * MIB})
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
with blank.lent():
    for _ in range({SIZE // (4 * MIB)}):
        # The library allocates on the thread that loads, and reads on others.
        thread = threading.Thread(target=fill, args=(libc.malloc({4 * MIB}),))
        thread.start()
        thread.join()
print(sum(faults), blank._address, blank.held_bytes)
"""


def test_without_glibc_nothing_is_held(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    blank = BlankMemory(lambda: PLENTY)

    blank.hold(SIZE, 0)

    with blank.lent():
        assert ctypes.create_string_buffer(16)
    assert blank.held_bytes == 0
    assert blank._thread is None
