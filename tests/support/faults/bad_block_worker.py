"""The real worker over a file with a block that the disk cannot read.

Run as `python -m tests.support.faults.bad_block_worker`, with HOTSEAT_BAD_BLOCK: a JSON list of
the path and the byte in it that no read may touch.
"""

import errno
import json
import os
import sys

from hotseat.worker.main import main

VARIABLE = "HOTSEAT_BAD_BLOCK"
COMMAND = [sys.executable, "-m", __name__]


def bad_block(path, byte):
    """What tells a daemon to have such workers."""
    place = json.dumps([os.fspath(path), byte])
    return {"HOTSEAT_WORKER_COMMAND": json.dumps(COMMAND), VARIABLE: place}


def spoil_reads():
    """From now on `os.preadv` fails over that byte, as it does over a bad block."""
    path, bad = json.loads(os.environ[VARIABLE])
    real = os.preadv

    def preadv(fd, buffers, offset, *flags):
        size = sum(len(buffer) for buffer in buffers)
        if offset <= bad < offset + size and os.path.sameopenfile(fd, spoilt):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset, *flags)

    spoilt = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    vars(os)["preadv"] = preadv


if __name__ == "__main__":
    spoil_reads()
    main()
