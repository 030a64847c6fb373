"""What this machine is: hardware, system, installed packages, earlier runs, reports of crashes.

Looks, changes nothing. Contents of reports are looked through for one word and never told.
"""

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

import hotseat.protocol
from hotseat.cli.selftest.file import newest_before, read_report
from hotseat.cli.selftest.rules.orders import CountCrashReports, LookBack
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.selftest import Absent, Fact, Figure, Measured, figure
from hotseat.protocol.version import VERSION
from hotseat.supervisor.machine.folder_access import protected_root
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, read_holder
from hotseat.supervisor.settings.placed_home import find_placed

Run = Callable[[Sequence[str]], str]
"""What a program of the system writes; empty if there is no such program."""
_PACKAGES: Final = ("mlx", "mlx-metal", "mlx-lm", "pyzmq", "msgspec", "numpy", "transformers")
_WEEK_S: Final = 7 * 24 * 3600.0
_WORD: Final = b"python"
_KINDS: Final = {"panic_reports": (".panic",), "crash_reports": (".ips", ".crash")}
_MEMORY_END: Final = "JetsamEvent"
_REPORTS: Final = (
    Path("/Library/Logs/DiagnosticReports"),
    Path("~/Library/Logs/DiagnosticReports").expanduser(),
)
_FROM_MAC: Final = {
    "chip": ("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"),
    "hardware": ("/usr/sbin/sysctl", "-n", "hw.model"),
    "build": ("/usr/bin/sw_vers", "-buildVersion"),
    "wired_limit_mb": ("/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"),
    "power": ("/usr/bin/pmset", "-g", "batt"),
    "low_power": ("/usr/bin/pmset", "-g"),
}


def run_program(command: Sequence[str]) -> str:
    """Its output, within a moment."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def describe_machine(
    folder: Path, *, is_mac: bool = sys.platform == "darwin", run: Run = run_program
) -> Measured:
    """Facts and the figures that bind: cores, memory, free disk, open files."""
    absent = (
        ()
        if is_mac
        else tuple(
            Absent(name=name, reason="a question that only macOS answers")
            for name in _FROM_MAC
            if name != "chip"
        )
    )
    facts = {
        "system": platform.system(),
        "system_version": platform.mac_ver()[0] or platform.release(),
        "python": platform.python_version(),
        "python_build": platform.python_implementation(),
        "python_machine": platform.machine(),
        "environment": "venv" if sys.prefix != sys.base_prefix else "installation",
        "hotseat": VERSION,
        "started_by": "launchd" if _is_job(os.environ.get("XPC_SERVICE_NAME", "")) else "terminal",
        "protected_folder": "yes" if _is_protected() else "no",
        "seat_held_by_another": "yes" if read_holder(DEFAULT_SEAT_LOCK) else "no",
        "file_names": "case-sensitive" if _tells_case(folder) else "case-insensitive",
        **{name.replace("-", "_"): _version_of(name) for name in _PACKAGES},
        **(_mac_facts(run) if is_mac else {"chip": _linux_chip()}),
    }
    return Measured(
        figures=_figures(folder),
        facts=tuple(Fact(name=name, value=value) for name, value in facts.items() if value),
        absent=absent,
    )


def _figures(folder: Path) -> tuple[Figure, ...]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        figure("memory_bytes", psutil.virtual_memory().total),
        figure("cores", psutil.cpu_count(logical=False) or 0),
        figure("threads", psutil.cpu_count() or 0),
        figure("disk_free_bytes", shutil.disk_usage(folder).free),
        figure("open_files_soft", soft),
        figure("open_files_hard", hard),
    )


def _mac_facts(run: Run) -> dict[str, str]:
    said = {name: run(command) for name, command in _FROM_MAC.items()}
    low = [line.split()[-1] for line in said["low_power"].splitlines() if "lowpowermode" in line]
    return said | {
        "power": "mains" if "AC Power" in said["power"] else "battery" if said["power"] else "",
        "low_power": {"0": "off", "1": "on"}.get(low[0], "") if low else "",
    }


def _linux_chip() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def _is_job(service: str) -> bool:
    """Terminal's own processes have the name 0, or one of an application."""
    return service not in {"", "0"} and not service.startswith("application.")


def _is_protected() -> bool:
    program = Path(str(hotseat.protocol.__file__))
    places = (Path(sys.prefix), program, find_placed().root)
    return any(protected_root(place, Path.home()) for place in places)


def _tells_case(folder: Path) -> bool:
    probe = folder / "case"
    probe.touch()
    is_other = (folder / "CASE").exists()
    probe.unlink()
    return not is_other


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def count_crash_reports(
    order: CountCrashReports,
    *,
    is_mac: bool = sys.platform == "darwin",
    folders: Sequence[Path] = _REPORTS,
) -> Measured:
    """By kind, how many there are since the run began, and of the week before that."""
    if not is_mac:
        reason = "macOS alone keeps such reports"
        return Measured(absent=(Absent(name="crash_reports", reason=reason),))
    since = _count(folders, order.began_at, time.time())
    before = _count(folders, order.began_at - _WEEK_S, order.began_at)
    return Measured(
        figures=(
            *(figure(f"{name}_since_begin", count) for name, count in since.items()),
            *(figure(f"{name}_week_before", count) for name, count in before.items()),
        )
    )


def _count(folders: Sequence[Path], start: float, end: float) -> dict[str, int]:
    found = dict.fromkeys((*_KINDS, "memory_end_reports"), 0)
    for folder in folders:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            kind = _kind_of(path.name)
            if kind and _is_of_python(path, start, end):
                found[kind] += 1
    return found


def _kind_of(name: str) -> str:
    if name.startswith(_MEMORY_END):
        return "memory_end_reports"
    return next((kind for kind, ends in _KINDS.items() if name.endswith(ends)), "")


def _is_of_python(path: Path, start: float, end: float) -> bool:
    try:
        return start <= path.stat().st_mtime < end and _WORD in path.read_bytes().lower()
    except OSError:
        return False


def look_back(
    order: LookBack,
    *,
    is_mac: bool = sys.platform == "darwin",
    folders: Sequence[Path] = _REPORTS,
    booted_at: float | None = None,
) -> Measured:
    """The newest file of another run, if it never came to its end."""
    path = newest_before(Path(order.folder), Path(order.own))
    earlier = None
    with contextlib.suppress(HotseatError):  # what is no file of ours tells nothing
        earlier = read_report(path) if path is not None else None
    if earlier is None or earlier.state != "running":
        return Measured(facts=(Fact(name="earlier_run", value="ended" if earlier else "none"),))
    at = earlier.heartbeat_at
    ran = next((one.name for one in earlier.results if one.verdict == "running"), "nothing")
    booted_at = psutil.boot_time() if booted_at is None else booted_at
    panics = _count(folders, at, time.time())["panic_reports"] if is_mac else 0
    return Measured(
        figures=(
            figure("booted_since", float(booted_at > at)),
            figure("panic_reports_since", panics),
        ),
        facts=(
            Fact(name="earlier_run", value="never ended"),
            Fact(name="earlier_scale", value=earlier.scale),
            Fact(name="earlier_entry", value=ran),
        ),
    )
