"""Another program on the same machine: 300 MB in use, a small task every 100 ms.

Started as a process of its own; prints a JSON line an arrival: [when it was due, milliseconds until
it was done]. What comes late makes the arrivals behind it late as well, and each one counts.
"""

import json
import os
import random
import sys
import time
import zlib

HELD_BYTES = 300_000_000
PAGE = 4096
TOUCHED = 1500
"""Pages that a task looks at, anywhere in what is held: each one is seen about every 5 s."""
EVERY_S = 0.1
WORK_BYTES = 4_000_000
"""Checksummed by a task: a few milliseconds of processor time."""
_PIECE = 1 << 20


def main() -> None:
    """Until it is killed."""
    held = bytearray()
    while len(held) < HELD_BYTES:
        held += os.urandom(_PIECE)
    draw = random.Random(1)  # noqa: S311 (the same pages in every run)
    work = bytes(held[:WORK_BYTES])
    print("ready", flush=True)
    started, number = time.monotonic(), 0
    while True:
        due = started + number * EVERY_S
        time.sleep(max(0.0, due - time.monotonic()))
        sum(held[draw.randrange(len(held) // PAGE) * PAGE] for _ in range(TOUCHED))
        zlib.crc32(work)
        ended = time.monotonic()
        while due <= ended:
            sys.stdout.write(json.dumps([due, (ended - due) * 1000]) + "\n")
            number += 1
            due = started + number * EVERY_S
        sys.stdout.flush()


if __name__ == "__main__":
    main()
