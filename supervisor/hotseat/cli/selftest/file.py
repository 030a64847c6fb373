"""The file of a run: whole at any moment, synced after every change; and reading one again."""

import os
import secrets
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from hotseat.cli.selftest.rules.results import FORMAT, Report, Result
from hotseat.protocol.errors import HotseatError

_PREFIX: Final = "hotseat-selftest-"
_TRIES: Final = 100


def choose_file(folder: Path, at: time.struct_time) -> Path:
    """`hotseat-selftest-YYYYMMDD-HHMM.json`, with a number behind it where that is taken."""
    name = time.strftime(f"{_PREFIX}%Y%m%d-%H%M", at)
    paths = [folder / f"{name}{f'-{number}' if number else ''}.json" for number in range(_TRIES)]
    return next(path for path in paths if not path.exists())


def newest_before(folder: Path, own: Path) -> Path | None:
    """The file of the newest other run in a folder."""
    found = [path for path in folder.glob(f"{_PREFIX}*.json") if path.name != own.name]
    return max(found, key=lambda path: (path.stat().st_mtime, path.name), default=None)


class ReportFile:
    """One run's file. Nothing that was there is replaced but what this run wrote."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.report = report
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            way_out = "name another file with --out"
            raise HotseatError(
                "invalid_request", f"{path}: {error.strerror}; {way_out}", path=str(path)
            ) from error
        try:
            self._write()
        except HotseatError:
            path.unlink()  # it is ours and empty
            raise

    def put(self, result: Result) -> None:
        """Adds an entry, or takes the place of what was known of it."""
        others = tuple(one for one in self.report.results if one.name != result.name)
        self._replace(structs.replace(self.report, results=(*others, result)))

    def end(self, *, interrupted: bool) -> None:
        """Nothing comes after that."""
        state = "interrupted" if interrupted else "finished"
        self._replace(structs.replace(self.report, state=state))

    def _replace(self, report: Report) -> None:
        self.report = structs.replace(report, heartbeat_at=round(time.time(), 1))
        self._write()

    def _write(self) -> None:
        """A temporary beside it, synced and renamed: a panic leaves the old one or the new one."""
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            with draft.open("wb") as stream:
                stream.write(msgspec.json.format(msgspec.json.encode(self.report), indent=1))
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            text = f"{self.path} cannot be written: {error.strerror}; free space, or --out"
            raise HotseatError("disk_full", text, path=str(self.path)) from error
        finally:
            draft.unlink(missing_ok=True)


def read_report(path: Path) -> Report:
    """The report in a file. Raises `HotseatError` (invalid_request) for what is none."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise HotseatError("invalid_request", f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        text = f"{path} is no file of `hotseat selftest`: {error}"
        raise HotseatError("invalid_request", text, path=str(path)) from error
    if report.selftest > FORMAT:
        text = f"{path} has format {report.selftest}, this hotseat reads up to {FORMAT}; upgrade it"
        raise HotseatError("version_mismatch", text, path=str(path))
    return report
