"""A daemon that reads its memory from a file: pressure for tests, on a machine that has plenty.

Run as `python -m tests.support.peers.scripted_daemon` with HOTSEAT_TEST_MEMORY
naming a JSON file of `Memory`.
"""

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from hotseat.protocol.telemetry import MemoryPages
from hotseat.supervisor.__main__ import main
from hotseat.supervisor.daemon.assembly import ground
from hotseat.supervisor.machine.figures import MachineMemory

VARIABLE = "HOTSEAT_TEST_MEMORY"
COMMAND = [sys.executable, "-m", "tests.support.peers.scripted_daemon"]


class Memory(Struct, frozen=True, kw_only=True):
    total: int = 64 << 30
    available: int = 32 << 30
    wired: int | None = None
    level: int | None = None
    footprint: int = 10 << 20
    pages: MemoryPages | None = None
    wired_limit_mb: int | None = None


class ScriptedProbe:
    def _read(self):
        return msgspec.json.decode(Path(os.environ[VARIABLE]).read_bytes(), type=Memory)

    def machine(self):
        now = self._read()
        return MachineMemory(
            total_bytes=now.total,
            available_bytes=now.available,
            wired_bytes=now.wired,
            pages=now.pages,
            pressure=now.level,
            wired_limit_mb=now.wired_limit_mb,
        )

    def footprint(self, _pid):
        return self._read().footprint

    def quick_footprint(self, pid):
        return self.footprint(pid)

    def holders(self, _count, _exclude=()):
        return []

    def pressure(self):
        return self._read().level


def write_memory(path, **fields):
    """Replaces what the probe reads, in one step."""
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(Memory(**fields)))
    new.replace(path)


if __name__ == "__main__":
    vars(ground)["system_probe"] = ScriptedProbe
    sys.exit(main())
