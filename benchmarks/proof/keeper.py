"""Undoes an experiment when it ends, however it ends: groups, swap, read-ahead, folder of homes.

`python -m benchmarks.proof.keeper NAME FOLDER SWAP READAHEAD KIB` waits until its input ends, which
it does when the experiment ends or is killed. A session of its own: Ctrl-C of a terminal does not
reach it.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from benchmarks.proof.groups import PREFIX, Group, find_place
from benchmarks.proof.readahead import Readahead
from benchmarks.proof.swap_file import swap_off
from hotseat.cli.demo.control_group import Place, leftovers

END_S = 120.0


class Keeper:
    """The process that undoes; `with` ends it, and it is done then."""

    def __init__(self, name: str, folder: Path, swap: Path, ahead: Readahead) -> None:
        """`name` of the groups; `folder` is removed, `swap` may never come to be."""
        command = [sys.executable, "-m", "benchmarks.proof.keeper", name, str(folder), str(swap)]
        command += [str(ahead.path), str(ahead.found_kb)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(END_S):
            print("not all was undone; the lines above say what is left", file=sys.stderr)


def undo(place: Place, name: str, folder: Path, swap: Path, ahead: Readahead) -> int:
    """0 when nothing is left. Each step is tried whatever became of the one before."""
    failed = 0
    for step in (
        ahead.put_back,
        Group(place, name, swap.parent).remove,
        lambda: swap_off(swap),
        lambda: shutil.rmtree(folder, ignore_errors=True),
    ):
        try:
            step()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"keeper of {name}: {error}", file=sys.stderr)
            failed = 1
    return failed


def sweep(place: Place, cache: Path) -> None:
    """Removes what runs before the machine's last crash left; kept by nobody any more."""
    for name in leftovers(place, PREFIX):
        Group(place, name, cache).remove()
    for swap in cache.glob("proof-*.swap"):
        if not Path("/proc", swap.stem.removeprefix("proof-")).exists():
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                swap_off(swap)
    for folder in cache.glob("proof-homes-*"):
        if not Path("/proc", folder.name.removeprefix("proof-homes-")).exists():
            shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Waits, then undoes."""
    name, folder, swap, path, found_kb = arguments
    ahead = Readahead(path=Path(path), found_kb=int(found_kb))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    return undo(find_place(), name, Path(folder), Path(swap), ahead)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
