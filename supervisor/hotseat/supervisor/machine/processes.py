"""Whether a process of this machine lives, and what this one may open. Must not know what it is."""

import resource
from typing import Final

import psutil

OPEN_FILES: Final = 8192
"""A terminal of macOS gives 256: about a hundred clients, then libzmq aborts."""


def is_alive(pid: int) -> bool:
    """True for a process that still does something; one that nobody reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def raise_open_files(wanted: int = OPEN_FILES) -> int:
    """Lets this process and its children open so many files, if its hard limit does; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = files_allowed(soft, hard, wanted)
    if limit != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def files_allowed(soft: int, hard: int, wanted: int) -> int:
    """The soft limit to set: never lower than it is, never above the hard one."""
    no_limit = resource.RLIM_INFINITY
    if soft == no_limit or soft >= wanted:
        return soft
    return wanted if hard == no_limit else min(wanted, hard)
