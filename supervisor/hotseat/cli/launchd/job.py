"""The property list of the launchd job: what it says and where it lies. Runs nothing.

Every path in it is absolute and as the user wrote it, never resolved: a link that an upgrade
points elsewhere has to stay a link.
"""

import hashlib
import os
import plistlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from hotseat.cli.launchd.account import Account
from hotseat.protocol.discovery import HOME_VARIABLE
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.daemon.logs import SERVICE_LOG, SERVICE_VARIABLE
from hotseat.supervisor.machine.processes import OPEN_FILES
from hotseat.supervisor.seat.rules.exit_bound import exit_time_out_s
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Deadlines

LABEL: Final = "local.hotseat"
HOME_PLACE: Final = "home folder"
DEFAULT_HOME: Final = ".hotseat"
AGENTS: Final = Path("Library/LaunchAgents")
DAEMONS_DIR: Final = Path("/Library/LaunchDaemons")
"""Where launchd looks for jobs of the system."""
THROTTLE_S: Final = 10
UMASK: Final = 0o077
_UNWRITABLE: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What XML cannot hold, or changes on the way."""
_CACHES: Final = frozenset({".cache", "Caches"})
_SYSTEM_PATH: Final = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")


class Job(Struct, frozen=True, kw_only=True):
    """Everything the property list depends on."""

    label: str
    program: tuple[str, ...]
    home: Home
    exit_time_out_s: int
    account: Account | None = None
    """Set for a job of the system, which runs without anybody being logged in."""

    @property
    def login_item(self) -> str:
        """The name under which System Settings → Login Items lists it: launchd's program's."""
        return Path(self.program[0]).name

    @property
    def places(self) -> dict[str, Path]:
        """What launchd's process has to read before any code of ours runs, by what it is."""
        return {
            HOME_PLACE: self.home.root,
            "program": Path(self.program[0]),
            "Python environment": Path(sys.prefix),
            "package": Path(__file__).parents[1],
        }

    @property
    def plist_path(self) -> Path:
        """Where launchd looks for it."""
        return (agents_dir() if self.account is None else DAEMONS_DIR) / f"{self.label}.plist"

    def plist(self) -> bytes:
        """The property list, the same bytes for the same job.

        Raises `HotseatError` (invalid_config) for a path that XML cannot hold.
        """
        output = str(self.home.logs_dir / SERVICE_LOG)
        content: dict[str, Any] = {
            "Label": self.label,
            **({} if self.account is None else {"UserName": self.account.name}),
            "ProgramArguments": [*self.program, "serve"],
            "EnvironmentVariables": {
                "PATH": ":".join(dict.fromkeys((*_folder_of(self.program[0]), *_SYSTEM_PATH))),
                HOME_VARIABLE: str(self.home.root),
                SERVICE_VARIABLE: self.label,
                **_identity(self.account),
            },
            "WorkingDirectory": str(self.home.root),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Interactive",
            "ExitTimeOut": self.exit_time_out_s,
            "ThrottleInterval": THROTTLE_S,
            "Umask": UMASK,
            "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
            "HardResourceLimits": {"NumberOfFiles": OPEN_FILES},
            "StandardOutPath": output,
            "StandardErrorPath": output,
        }
        for text in _texts(content):
            if _UNWRITABLE.search(text):
                raise HotseatError(
                    "invalid_config",
                    f"path {text!r} has a character that a property list cannot hold; "
                    f"move the folder or set {HOME_VARIABLE}",
                    path=text.encode(errors="replace").decode(),
                )
        return plistlib.dumps(content, sort_keys=False)


def make_job(
    home: Home, program: tuple[str, ...], limits: Deadlines, account: Account | None = None
) -> Job:
    """The job of that home folder; with `account` one of the system."""
    return Job(
        label=job_label(home, None if account is None else account.home),
        program=program,
        home=home,
        exit_time_out_s=exit_time_out_s(limits),
        account=account,
    )


def home_of(account: Account, environ: Mapping[str, str] = os.environ) -> Home:
    """What `Home.find` gives that user, also behind `sudo`, which may change HOME."""
    return Home.find(Path(environ.get(HOME_VARIABLE) or account.home / DEFAULT_HOME))


def is_of_system(account: Account) -> bool:
    """True when that user's home has a job of the system."""
    label = job_label(home_of(account), account.home)
    return (DAEMONS_DIR / f"{label}.plist").exists()


def job_label(home: Home, user_home: Path | None = None) -> str:
    """`local.hotseat` for ~/.hotseat; other homes get a label of their own."""
    if home.root == (user_home or Path.home()) / DEFAULT_HOME:
        return LABEL
    digest = hashlib.blake2b(os.fsencode(home.root), digest_size=4).hexdigest()
    return f"{LABEL}.{digest}"


def agents_dir() -> Path:
    """Where launchd looks for jobs of this user."""
    return Path.home() / AGENTS


def stable_program(argv0: str, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """How to call this installation by a path that survives its upgrade.

    The `hotseat` on PATH if it is this one: package managers keep that link. Else the file that was
    called, else the interpreter with the module.
    """
    called = Path(os.path.abspath(argv0))  # noqa: PTH100 - keeps symlinks
    if called.name != "hotseat" or not os.access(called, os.X_OK):
        return (os.path.abspath(sys.executable), "-m", "hotseat.cli.main")  # noqa: PTH100
    found = shutil.which("hotseat", path=environ.get("PATH"))
    if found is not None and Path(found).is_absolute() and Path(found).samefile(called):
        return (found,)
    return (str(called),)


def refuse_passing(prefix: str = sys.prefix) -> None:
    """Raises `HotseatError` for an environment in a cache, as `uvx` makes one: it will be gone."""
    if _CACHES.intersection(Path(prefix).parts):
        raise HotseatError(
            "invalid_config",
            f"this hotseat runs from a cache ({prefix}) that its tool empties; install it with "
            "`uv tool install 'hotseat[all]'` or `pipx install 'hotseat[all]'`, then again",
            path=prefix,
        )


def _identity(account: Account | None) -> dict[str, str]:
    """What a login would have set."""
    return {} if account is None else {"HOME": str(account.home), "USER": account.name}


def _folder_of(program: str) -> tuple[str, ...]:
    """For PATH, which cannot hold a folder with a colon: its rest would be a relative one."""
    folder = str(Path(program).parent)
    return () if ":" in folder else (folder,)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for entry in value.values() for text in _texts(entry)]
    return [text for entry in value for text in _texts(entry)] if isinstance(value, list) else []
