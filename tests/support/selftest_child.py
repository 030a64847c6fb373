"""Stands in for a measuring process: says, hangs, dies or leaves a process behind, as it is told.

The order is a `LookBack`: its `folder` is what to do, its `own` a file for the pid of a grandchild.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

KNOWN = {"figures": [{"name": "steps", "samples": [1.0]}]}


def main():
    for line in sys.stdin:
        order = json.loads(line)
        act(order["folder"], Path(order["own"]))


def act(what, note):
    if "child" in what:
        # Lives until it is killed, like the child itself further down.
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note.write_text(str(sleeper.pid))
    say(KNOWN)
    if "hang" in what:
        time.sleep(600)  # what is tried: an end that does not come by itself
    if "crash" in what:
        sys.stderr.write(f"RuntimeError: no good, see {Path.home()}/secret of {os.getuid()}\n")
        os._exit(3)
    if "count" in what:
        say(KNOWN | {"facts": [{"name": "pid", "value": str(os.getpid())}], "is_last": True})
        return
    say({"facts": [{"name": "earlier_run", "value": "none"}], "is_last": True})


def say(plain):
    sys.stdout.write(json.dumps(plain) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
