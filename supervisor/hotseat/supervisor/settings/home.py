"""Where everything lies under the home folder. Creates folders, opens nothing."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.discovery import ENDPOINT_FILE, HOME_VARIABLE
from hotseat.protocol.errors import HotseatError

MAX_SOCKET_BYTES: Final = 103
"""macOS has 104 bytes for a socket path, one of them for the end."""
_PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = 0o022
_FALLBACK_ROOTS: Final = ("/tmp",)  # noqa: S108 - the folder made there is private and checked


class Home(Struct, frozen=True):
    """A home folder. Nothing is touched before `create`."""

    root: Path
    models: Path | None = None
    """The folders that settings put elsewhere."""
    kv: Path | None = None
    logs: Path | None = None

    @classmethod
    def find(cls, explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Home":
        """`explicit`, else HOTSEAT_HOME, else ~/.hotseat; always absolute."""
        chosen = explicit or Path(environ.get(HOME_VARIABLE) or "~/.hotseat")
        return cls(Path(os.path.abspath(chosen.expanduser())))  # noqa: PTH100 - keeps symlinks

    @property
    def config(self) -> Path:
        """Settings, written by people."""
        return self.root / "config.toml"

    @property
    def run_dir(self) -> Path:
        """Sockets, endpoint file and lock of a running daemon."""
        return self.root / "run"

    @property
    def endpoint_file(self) -> Path:
        """How clients find the daemon."""
        return self.run_dir / ENDPOINT_FILE

    @property
    def lock_file(self) -> Path:
        """Held by the one daemon of this home."""
        return self.run_dir / "daemon.lock"

    @property
    def models_dir(self) -> Path:
        """One folder per registered model."""
        return self.models or self.root / "models"

    @property
    def kv_dir(self) -> Path:
        """KV files, one folder per tag."""
        return self.kv or self.root / "kv"

    @property
    def sessions_dir(self) -> Path:
        """One file per session, from which a catalogue can be made anew."""
        return self.root / "sessions"

    @property
    def catalogue(self) -> Path:
        """What is durable besides KV files."""
        return self.root / "catalogue.sqlite"

    @property
    def logs_dir(self) -> Path:
        """What is caught of the daemon's output, and its log unless settings put that elsewhere."""
        return self.root / "logs"

    @property
    def log_file(self) -> Path:
        """The daemon's log, JSON lines."""
        return (self.logs or self.logs_dir) / "hotseat.log"

    def create(self) -> None:
        """Makes the folders that are missing, private to this user whatever the umask is.

        Raises `HotseatError` (invalid_config) for a home that others own or may write to.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            _make_private(self.root)
            for folder in (self.run_dir, self.sessions_dir, self.logs_dir):
                _make_private(folder)
            # The setting was checked when it was read; models may be away for a while.
            for folder in (self.models_dir, self.kv_dir, self.log_file.parent):
                if folder.parent.is_dir():
                    _make_private(folder)
        except OSError as error:
            raise HotseatError(
                "invalid_config",
                f"home folder {self.root} cannot be made ({error.strerror}: {error.filename});"
                f" set {HOME_VARIABLE} to a folder you can write to",
                path=str(self.root),
            ) from error

    def socket_path(self, name: str) -> Path:
        """`run/NAME.sock`, or a short path in a private folder made for it where that is too long.

        Raises `HotseatError` (invalid_config) when no path is short enough.
        """
        path = self.run_dir / f"{name}.sock"
        if _fits(path):
            return path
        digest = hashlib.blake2b(os.fsencode(self.root.resolve()), digest_size=6).hexdigest()
        for root in (tempfile.gettempdir(), *_FALLBACK_ROOTS):
            folder = Path(root) / f"hotseat-{os.geteuid()}-{digest}"
            short = folder / path.name
            if _fits(short):
                _make_private(folder)
                return short
        raise HotseatError(
            "invalid_config",
            f"socket path {path} has {len(os.fsencode(path))} bytes, the limit is"
            f" {MAX_SOCKET_BYTES}; set {HOME_VARIABLE} to a shorter path",
            path=str(path),
            limit=MAX_SOCKET_BYTES,
        )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_BYTES


def _make_private(folder: Path) -> None:
    """Makes the folder with mode 0700, or checks that the one there is ours alone to write to."""
    try:
        folder.mkdir(mode=_PRIVATE)
        folder.chmod(_PRIVATE)
    except FileExistsError:
        pass
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise HotseatError(
            "invalid_config", f"{folder} is no folder; move it away", path=str(folder)
        )
    is_link = folder.is_symlink() and folder.lstat().st_uid not in (os.geteuid(), 0)
    if found.st_uid != os.geteuid() or is_link:
        raise HotseatError(
            "invalid_config",
            f"{folder} belongs to user {found.st_uid}, the daemon runs as {os.geteuid()};"
            f" set {HOME_VARIABLE} to a folder of your own",
            path=str(folder),
            owner_uid=found.st_uid,
        )
    if found.st_mode & _OTHERS_WRITE:
        raise HotseatError(
            "invalid_config",
            f"{folder} may be written by other users (mode {stat.S_IMODE(found.st_mode):04o});"
            f" run `chmod go-w {folder}`",
            path=str(folder),
            mode=stat.S_IMODE(found.st_mode),
        )
