"""What a Mac's kernel would answer: page counts and sysctls, behind the calls that ask for them."""

import ctypes

from hotseat.supervisor.machine.mach import MachHost

PAGE = 16_384


class FakeMacLibc:
    """`host_statistics64` and `sysctlbyname` of a Mac whose counts the test decides."""

    def __init__(self, total=24 << 30, level=1, wired_limit_mb=0, **counts):
        self.total = total
        self.level = level
        self.wired_limit_mb = wired_limit_mb
        self.counts = counts

    @property
    def mach_host_self(self):
        return _host

    def host_statistics64(self, host, flavour, found, count):
        assert (host, flavour) == (7, 4)
        assert count._obj.value * 4 == 152, "HOST_VM_INFO64_COUNT of the first revision"
        if self.counts is None:
            return 5
        for name, value in self.counts.items():
            setattr(found._obj, name, value)
        return 0

    def sysctlbyname(self, name, old, old_size, _new, _new_size):
        answers = {
            b"kern.memorystatus_vm_pressure_level": (ctypes.c_int, self.level),
            b"hw.memsize": (ctypes.c_uint64, self.total),
            b"iogpu.wired_limit_mb": (ctypes.c_int, self.wired_limit_mb),
        }
        kind, value = answers[name]
        if value is None:
            return -1
        assert ctypes.cast(old_size, ctypes.POINTER(ctypes.c_size_t))[0] >= ctypes.sizeof(kind)
        ctypes.cast(old, ctypes.POINTER(kind))[0] = value
        return 0


def _host():
    return 7


def mac_host(**answers):
    return MachHost(FakeMacLibc(**answers), page_bytes=PAGE)
