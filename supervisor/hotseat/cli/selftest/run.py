"""One `hotseat selftest`: what it runs with, where it works, and that it leaves nothing behind."""

import contextlib
import getpass
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.cli.selftest.file import ReportFile, choose_file
from hotseat.cli.selftest.rules.choosing import largest_that_fits
from hotseat.cli.selftest.rules.entries import Places, plan_entries
from hotseat.cli.selftest.rules.results import Report, Result
from hotseat.cli.selftest.rules.scales import SCALES, Scale
from hotseat.cli.selftest.runner import Runner
from hotseat.cli.terminal.output import duration, note
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.version import VERSION
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.placed_home import open_home

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FILES: Final = (".gguf", ".safetensors")


class Chosen(Struct, frozen=True):
    """A model that is on this machine already; empty: only the small ones of the run itself."""

    source: str = ""
    adapter: str = ""


def chosen_scale(name: str, soak_s: float | None) -> Scale:
    """One of the scales, or a soak with its models."""
    scale = SCALES[name]
    if soak_s is None:
        return scale
    return replace(scale, soak_s=soak_s, takes=f"{duration(soak_s)} and a few minutes")


def run_selftest(scale: Scale, model: str | None, out: Path | None) -> tuple[Path, Report]:
    """Runs everything; the file and what is in it. KeyboardInterrupt once all is cleaned up."""
    chosen = _named(model) if model else _fitting() if scale.name == "full" else Chosen()
    began = time.time()
    path = (out or choose_file(Path.cwd(), time.localtime(began))).absolute()
    report = Report(
        hotseat=VERSION,
        began_at=time.strftime("%Y-%m-%d %H:%M", time.localtime(began)),
        scale=scale.name,
        state="running",
        heartbeat_at=round(began, 1),
    )
    file = ReportFile(path, report)
    note(f"selftest, about {scale.takes}: {path}")
    with _ends_once(), _own_folder() as base:
        places = Places(
            base=str(base),
            folder=str(path.parent),
            own_file=path.name,
            began_at=began,
            source=chosen.source,
            adapter=chosen.adapter,
            standby=not scale.shares_daemon,
        )
        runner = Runner(file, base, _own_names(), _show, shares_daemon=scale.shares_daemon)
        try:
            runner.run(plan_entries(scale, places))
        except KeyboardInterrupt:
            file.end(interrupted=True)
            note(f"interrupted; what is known by now is in {path}")
            raise
    file.end(interrupted=False)
    return path, file.report


def _show(result: Result) -> None:
    """A line as an entry begins, and one as it ended."""
    if result.verdict == "running":
        note(f"{result.name}: {result.measures}")
        return
    reason = f" ({result.reason})" if result.reason else ""
    note(f"{result.name}: {result.verdict}, {result.seconds:.1f} s{reason}")


def _named(model: str) -> Chosen:
    """A path, or the name of a registered model."""
    path = Path(model).expanduser()
    if path.exists() and (path.suffix in _FILES or "/" in model or (path / "config.json").exists()):
        return Chosen(str(path.absolute()))
    home, settings = open_home()
    record = Registry(home, settings, nobody).get(model)
    if record.unfit_reason:
        raise HotseatError("model_unfit", f"{model}: {record.unfit_reason}", model=model)
    return Chosen(record.path, record.adapter)


def _fitting() -> Chosen:
    """The largest registered model that memory has room for now."""
    try:
        home, settings = open_home()
    except HotseatError:
        return Chosen()
    records = Registry(home, settings, nobody).records()
    record = largest_that_fits(records, system_probe().machine().available_bytes)
    return Chosen() if record is None else Chosen(record.path, record.adapter)


def _own_names() -> frozenset[str]:
    """What tells who and where somebody is."""
    host = socket.gethostname()
    return frozenset({getpass.getuser(), Path.home().name, host, host.partition(".")[0]}) - {""}


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """Short, since it holds sockets; gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="hsself"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def _ends_once() -> Iterator[None]:
    """A closed window or a `kill` cleans up as Ctrl-C does, and a second one does not disturb."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
