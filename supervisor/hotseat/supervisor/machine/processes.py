"""Whether a process of this machine lives. Must not know what it is."""

import psutil


def is_alive(pid: int) -> bool:
    """True for a process that still does something; one that nobody reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
