"""Runs the process that reads KV files, and reads what it says. Never opens a KV file itself."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.process_lines import SCAN_LINE, ScanCount, ScanLine, ScannedFile
from hotseat.supervisor.catalogue.rebuilding import Found, FoundFile
from hotseat.supervisor.catalogue.session_files import SessionDamagedError, newest_sessions

_COMMAND: Final = (sys.executable, "-m", "hotseat.worker.store.scan")


class Scan(Struct, frozen=True, kw_only=True):
    """All of it. `files`: the damaged ones, or with headers every one."""

    files: tuple[ScannedFile, ...]
    count: ScanCount


class KvScan:
    """One run over all KV files. `run` blocks: call it in a thread; `cancel` from any."""

    def __init__(self, kv_dir: Path, *, headers: bool) -> None:
        self._kv_dir = kv_dir
        self._headers = headers
        self._child: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def run(self) -> Scan:
        """Raises `HotseatError` if the process cannot do its work."""
        command = [*_COMMAND, str(self._kv_dir), *(["--headers"] if self._headers else [])]
        with self._lock:
            if self._is_cancelled:
                raise _ended("was cancelled")
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        files: list[ScannedFile] = []
        with self._child as child:
            for line in _lines(child):
                if line.file is not None:
                    files.append(line.file)
                if line.end is not None:
                    return Scan(files=tuple(files), count=line.end)
            assert child.stderr is not None  # noqa: S101 - asked for above
            said = child.stderr.read().decode(errors="replace").strip().splitlines()
        raise _ended(f"ended without an answer: {said[-1] if said else 'it said nothing'}")

    def cancel(self) -> None:
        """Ends the process; `run` raises then."""
        with self._lock:
            self._is_cancelled = True
            if self._child is not None and self._child.poll() is None:
                self._child.kill()


def find_everything(kv_dir: Path, sessions_dir: Path) -> tuple[Found, list[str]]:
    """What a catalogue can be made from, and which session files did not verify. Blocks."""
    scan = KvScan(kv_dir, headers=True).run()
    contents, damaged = [], []
    for item in newest_sessions(sessions_dir):
        if isinstance(item, SessionDamagedError):
            damaged.append(str(item))
        else:
            contents.append(item)
    files = tuple(
        FoundFile(
            tag=file.tag,
            file=file.file,
            size_bytes=file.size_bytes,
            parent=file.parent,
            tokens=file.tokens,
            hint=file.hint,
            written_at=file.written_at,
        )
        for file in scan.files
        if not file.reason
    )
    return Found(files=files, sessions=tuple(contents)), damaged


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[ScanLine]:
    assert child.stdout is not None  # noqa: S101 - asked for above
    for data in child.stdout:
        yield SCAN_LINE.decode(data)


def _ended(what: str) -> HotseatError:
    return HotseatError("internal", f"the process that reads KV files {what}")
