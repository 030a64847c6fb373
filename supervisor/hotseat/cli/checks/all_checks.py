"""What `hotseat doctor` looks at. Each check returns findings; none changes anything."""

import contextlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hotseat.cli.home.connecting import connected, version_difference
from hotseat.cli.terminal.findings import Finding, bad, doubtful, good
from hotseat.cli.terminal.output import size
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.gateways import read_gateways
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.version import VERSION
from hotseat.supervisor.machine.folder_access import protected_places
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, read_holder
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.machine.processor import NO_INTEL, is_intel_mac
from hotseat.supervisor.machine.volumes import why_not_writable
from hotseat.supervisor.models.rules.working_set import metal_working_set
from hotseat.supervisor.settings.home import MAX_SOCKET_BYTES, Home
from hotseat.supervisor.settings.placed_home import find_placed
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import Settings

if TYPE_CHECKING:
    from hotseat.client.sync import Client
    from hotseat.protocol.views import ModelView

_WORKER_PARTS: Final = ("mlx", "mlx_lm", "gguf")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OWNED: Final = ("run", "kv", "models", "logs", "catalogue.sqlite", "config.toml")
_HOLDERS: Final = 5
_SYSCTL: Final = ("/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb")


def run_checks() -> Iterator[Finding]:
    """All findings, in the order in which things go wrong."""
    home = find_placed()
    for name, check in CHECKS.items():
        try:
            yield from check(home)
        except HotseatError as error:
            yield bad(name, error.message, "see the text")
        except OSError as error:
            yield bad(name, f"cannot be looked at: {error}", "check owner and permissions")


def check_versions(home: Home) -> Iterator[Finding]:
    """Interpreter, machine and packages."""
    del home
    python = platform.python_version()
    machine = f"{platform.system()} {platform.machine()}"
    if is_intel_mac():
        yield bad("python", f"{python}, {machine}", NO_INTEL)
    elif sys.platform == "darwin":
        yield good("python", f"{python}, {machine}")
    else:
        text = f"{python}, {machine}: MLX's CPU backend"
        yield doubtful("python", text, "for development; Apple silicon is the target")
    missing = [name for name in _WORKER_PARTS if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "pip install 'hotseat[worker]'"
        yield bad("packages", f"{', '.join(missing)} missing: no model can be seated", remedy)
    else:
        named = ("mlx", "mlx-lm", "pyzmq", "msgspec")
        parts = ", ".join(f"{name} {_version_of(name)}" for name in named)
        yield good("packages", f"hotseat {VERSION}, {parts}")


def check_home(home: Home) -> Iterator[Finding]:
    """Owner, permissions, room."""
    name = "home"
    if not home.root.exists():
        yield good(name, f"{home.root} is made at the first start")
        return
    found = home.root.stat()
    if found.st_uid != os.geteuid():
        text = f"{home.root} belongs to user {found.st_uid}"
        yield bad(name, text, "set HOTSEAT_HOME to a folder of your own")
    elif found.st_mode & _OTHERS:
        text = f"{home.root} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
        yield bad(name, text, f"chmod go-rwx {home.root}")
    elif not os.access(home.root, os.W_OK | os.X_OK):
        yield bad(name, f"{home.root} cannot be written to", f"chmod u+rwx {home.root}")
    else:
        foreign = [
            part
            for part in _OWNED
            if (home.root / part).exists() and (home.root / part).stat().st_uid != os.geteuid()
        ]
        if foreign:
            remedy = f"sudo chown -R {os.geteuid()} {home.root}"
            yield bad(name, f"{', '.join(foreign)} in {home.root} belong to others", remedy)
        else:
            yield good(name, str(home.root))


def check_config(home: Home) -> Iterator[Finding]:
    """The file as the daemon would read it."""
    try:
        load_settings(home.config)
    except HotseatError as error:
        yield bad("config", error.message, "`hotseat config show` has every setting")
        return
    what = str(home.config) if home.config.exists() else "none; defaults apply"
    yield good("config", what)
    for folder in (home.models, home.kv, home.logs):
        if folder is not None and (reason := why_not_writable(folder)[0]):
            yield bad("folders", f"{folder} {reason}", "mount it, or change [folders]")


def check_disk(home: Home) -> Iterator[Finding]:
    """Room for contexts, and the floor that is never touched."""
    place = home.root if home.root.exists() else home.root.parent
    usage = shutil.disk_usage(place)
    kv = _settings(home).kv
    floor, budget = kv.free_floor_for(usage.total), kv.disk_budget_for(usage.free)
    text = f"{size(usage.free)} free of {size(usage.total)}, {size(budget)} of it for contexts"
    if usage.free < floor:
        remedy = "free space, or lower `kv.free_floor_bytes`"
        yield bad("disk", f"{text}; below the floor of {size(floor)}", remedy)
    else:
        yield good("disk", text)


def check_socket(home: Home) -> Iterator[Finding]:
    """Unix sockets have short names."""
    wanted = home.run_dir / "requests.sock"
    length = len(os.fsencode(wanted))
    if length <= MAX_SOCKET_BYTES:
        yield good("socket", f"{wanted} ({length} of {MAX_SOCKET_BYTES} bytes)")
    else:
        text = f"{wanted} has {length} bytes, {MAX_SOCKET_BYTES} work; a short folder stands in"
        yield doubtful("socket", text, "set HOTSEAT_HOME to a shorter path")


def check_memory(home: Home) -> Iterator[Finding]:
    """What models may use, and who holds the rest."""
    probe = system_probe()
    machine = probe.machine()
    memory = _settings(home).memory
    reserve = memory.reserve_for(machine)
    limit = min(machine.total_bytes - reserve, memory.limit_bytes or machine.total_bytes)
    text = (
        f"{size(machine.available_bytes)} available of {size(machine.total_bytes)}, at most "
        f"{size(limit)} for a model and its contexts (reserve {size(reserve)})"
    )
    if machine.bound is not None:
        text += f"; limited by {machine.bound}"
    if machine.available_bytes < reserve:
        yield doubtful("memory", text, "close other programs; the largest are below")
    else:
        yield good("memory", text)
    yield from _metal_limit(machine.total_bytes)
    holders = probe.holders(_HOLDERS, exclude=frozenset({os.getpid()}))
    held = ", ".join(f"{holder.name} {size(holder.size_bytes)}" for holder in holders)
    yield good("held by", held or "nobody worth naming")


def check_seat(home: Home) -> Iterator[Finding]:
    """Who holds the machine's one seat."""
    chosen = _settings(home).seat.lock_path
    holder = read_holder(Path(chosen) if chosen else DEFAULT_SEAT_LOCK)
    if holder is None:
        yield good("seat", "free")
    else:
        held = f"{holder.model} ({size(holder.size_bytes)}), {holder.user}, process {holder.pid}"
        yield good("seat", f"held: {held}")


def check_daemon(home: Home) -> Iterator[Finding]:
    """Does it answer, is it of this version, what does it complain of?"""
    del home
    try:
        with connected() as client:
            view = client.status()
            models = client.models()
            limit = _told_limit(client, models)
            running = client.welcome.version if client.welcome else view.version
    except DaemonUnreachable as error:
        yield doubtful("daemon", error.message, "`hotseat service install` or `hotseat serve`")
        return
    difference = version_difference(running)
    if difference:
        yield doubtful("daemon", difference, "`hotseat service restart`")
    else:
        yield good("daemon", f"process {view.pid}, seat {view.phase}")
    if view.last_error:
        yield doubtful("last error", view.last_error, "`hotseat logs`")
    if view.gpu_errors:
        text = f"it failed under {view.gpu_errors} workers since the daemon started"
        yield doubtful("GPU", text, "restart the Mac if that goes on; `hotseat logs`")
    for text in view.notices:
        yield bad("notice", text, "see the text; after a change of it `hotseat service restart`")
    if limit:
        yield good("metal limit", f"{size(limit)} for a process, as Metal told a worker")
    for model in models:
        if model.state not in {"ready", "seated"}:
            yield doubtful(f"model {model.name}", f"{model.state}: {model.reason}", "see the text")


def check_http(home: Home) -> Iterator[Finding]:
    """Whether the gateway lives, who may come in, who else has its port."""
    http = _settings(home).http
    if http.open_loopback:
        text = "[http] open_loopback: every program and every user of this machine comes in"
        yield doubtful("http", text, "take it away; `hotseat gateway --print-env` prints the key")
    found = read_gateways(home.root)
    for gateway in found:
        yield good("http", f"{gateway.address}, process {gateway.pid}")
    if found or not http.enabled:
        return
    text = f"no gateway at {http.host}:{http.port} although [http] enabled is set"
    yield bad("http", text, "`hotseat status` says why; it is started by `hotseat serve`")


def check_service(home: Home) -> Iterator[Finding]:
    """The launchd job, and whether macOS asks before it may read what it needs."""
    del home
    from hotseat.cli.launchd.launchctl import Launchctl
    from hotseat.cli.launchd.service import open_service, way_out
    from hotseat.cli.launchd.state import read_state

    if Launchctl().is_there:
        service = open_service()
        yield from read_state(service, VERSION).findings
        for place in protected_places(service.job.places, Path.home()).values():
            yield doubtful("grants", place.notice, way_out(place))


CHECKS: Final[dict[str, Callable[[Home], Iterator[Finding]]]] = {
    "versions": check_versions,
    "home": check_home,
    "config": check_config,
    "disk": check_disk,
    "socket": check_socket,
    "memory": check_memory,
    "seat": check_seat,
    "daemon": check_daemon,
    "http": check_http,
    "service": check_service,
}


def _metal_limit(total_bytes: int) -> Iterator[Finding]:
    """How much of the memory Metal lets one process wire."""
    if sys.platform != "darwin":
        return
    done = subprocess.run(_SYSCTL, capture_output=True, text=True, timeout=5.0, check=False)
    said = done.stdout.strip()
    limit = int(said) * MIB if said.isdecimal() else 0
    if limit:
        yield good("metal", f"iogpu.wired_limit_mb is set: {size(limit)} of {size(total_bytes)}")
    else:
        text = f"macOS's default, about {size(metal_working_set(total_bytes))} for a process"
        yield good("metal", f"{text}; `hotseat plan MODEL` says whether that is what binds")


def _told_limit(client: "Client", models: "Iterable[ModelView]") -> int | None:
    """What Metal allows, if the daemon knows: any model's plan has it."""
    for model in models:
        with contextlib.suppress(HotseatError):
            return client.plan(model.name).working_set_bytes
    return None


def _settings(home: Home) -> Settings:
    """Defaults stand in for a file that another check complains of."""
    try:
        return load_settings(home.config)
    except HotseatError:
        return Settings()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
