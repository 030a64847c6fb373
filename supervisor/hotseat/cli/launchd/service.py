"""Installs, starts, stops and removes the launchd job of a home folder, and proves that it runs.

Only a Welcome on the daemon's socket counts as running; what launchd says is not believed.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hotseat.cli.launchd.account import acting_as, own_account, refuse_unfit
from hotseat.cli.launchd.job import (
    AGENTS,
    HOME_PLACE,
    Job,
    home_of,
    is_of_system,
    make_job,
    refuse_passing,
    stable_program,
)
from hotseat.cli.launchd.launchctl import Launchctl, LoadedJob, refused
from hotseat.cli.terminal.output import note
from hotseat.client.endpoint import read_endpoint
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.discovery import HOME_VARIABLE, Endpoint
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.daemon.logs import SERVICE_LOG
from hotseat.supervisor.machine.folder_access import ProtectedPlace, protected_places
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.reader import load_settings

ATTEMPTS: Final = 6
FIRST_PAUSE_S: Final = 0.5
START_S: Final = 60.0
GONE_SLACK_S: Final = 15.0
_POLL_S: Final = 0.1
_NOTE_AFTER_S: Final = 1.0
_DEAD_POLLS: Final = 10


class Service:
    """One job of launchd. Every method ends in the state it names, or raises `HotseatError`."""

    def __init__(
        self, job: Job, launchctl: Launchctl, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.job = job
        self.launchctl = launchctl
        self._pause = pause
        if not launchctl.is_there:
            raise HotseatError(
                "unsupported_feature",
                "there is no launchd on this system; run `hotseat serve` from its own service "
                "manager, or `hotseat restart` for a daemon in the background",
                field="service",
            )
        if job.account is None and os.environ.get("SUDO_USER"):
            raise HotseatError(
                "invalid_request",
                "the service belongs to a user; run this without sudo, or install one that needs "
                "nobody logged in: `sudo hotseat service install --system`",
                user=os.environ["SUDO_USER"],
            )

    @property
    def plist_path(self) -> Path:
        """Where the property list lies."""
        return self.job.plist_path

    @property
    def is_installed(self) -> bool:
        """True when there is a property list, current or not."""
        return self.plist_path.is_file()

    # --- procedures -----------------------------------------------------------------------------

    def install(self) -> Endpoint:
        """Write, bootout, wait until gone, enable, bootstrap with retries, Welcome."""
        plist = self.job.plist()
        refuse_passing()
        self._refuse_powerless()
        self._refuse_second_job()
        self._refuse_protected()
        self._refuse_other_daemon()
        with acting_as(self.job.account):
            self.job.home.create()
        write_whole(self.plist_path, plist)
        self._unload()
        return self._load()

    def uninstall(self) -> bool:
        """Ends the job, which saves its contexts, and removes the property list."""
        self._refuse_powerless()
        was_there = self.is_installed
        self._unload()
        self.plist_path.unlink(missing_ok=True)
        return was_there

    def start(self) -> Endpoint:
        """Starts the installed job; one that runs already is left alone."""
        self._refuse_powerless()
        self._refuse_missing()
        self._refuse_other_daemon()
        loaded = self.launchctl.find(self.job.label)
        if loaded is None or self.launchctl.is_disabled(self.job.label):
            return self._load()
        if loaded.pid is None:
            answer = self.launchctl.kickstart(self.job.label)
            if answer.code:
                raise refused("kickstart", answer)
        return self._await_welcome()

    def stop(self) -> bool:
        """Ends the daemon in order; the job stays and starts at the next login.

        False: it was not running.
        """
        self._refuse_powerless()
        self._refuse_missing()
        loaded = self.launchctl.find(self.job.label)
        if loaded is None or loaded.pid is None:
            return False
        answer = self.launchctl.terminate(self.job.label)
        if answer.code and self._pid() is not None:
            raise refused("kill", answer)
        self._await_end(lambda: self._pid() != loaded.pid, loaded.pid)
        return True

    def restart(self) -> Endpoint:
        """Ends the daemon in order, which saves every context, and starts it again.

        Settings that the next one would refuse leave the running one alone.
        """
        load_settings(self.job.home.config)
        self.stop()
        return self.start()

    def greet(self, endpoint: Endpoint) -> None:
        """Returns when that daemon says Welcome; raises `DaemonUnreachable` when none does."""
        from hotseat.client.sync import Client

        with acting_as(self.job.account):
            Client(name="hotseat-cli", endpoint=endpoint.requests).close()

    # --- steps ----------------------------------------------------------------------------------

    def _load(self) -> Endpoint:
        """Enable comes first: a disabled job answers bootstrap with the error 5 of everything."""
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            enabled = self.launchctl.enable(self.job.label)
            if enabled.code:
                raise refused("enable", enabled)
            answer = self.launchctl.bootstrap(self.plist_path)
            if answer.code == 0 or self.launchctl.find(self.job.label) is not None:
                return self._await_welcome()
            if not (answer.is_busy or answer.is_disabled) or attempt == ATTEMPTS:
                break
            note(f"launchd is not ready yet (error {answer.code}); trying again in {pause_s:g} s")
            self._pause(pause_s)
            pause_s *= 2
        raise refused("bootstrap", answer)

    def _unload(self) -> None:
        """A bootout may return long before the job is gone, or say that it goes on."""
        loaded = self.launchctl.find(self.job.label)
        if loaded is None:
            return
        answer = self.launchctl.bootout(self.job.label)
        if answer.code and not answer.is_busy and self.launchctl.find(self.job.label) is not None:
            raise refused("bootout", answer)
        self._await_end(lambda: self.launchctl.find(self.job.label) is None, loaded.pid)

    def _await_end(self, is_over: Callable[[], bool], pid: int | None) -> None:
        started = time.monotonic()
        limit_s = self.job.exit_time_out_s + GONE_SLACK_S
        was_noted = False
        while not is_over():
            waited_s = time.monotonic() - started
            if waited_s > limit_s:
                raise HotseatError(
                    "service_failed",
                    f"the job {self.job.label} (process {pid}) still runs after {waited_s:.0f} s; "
                    "see `hotseat logs`, then try again",
                    label=self.job.label,
                    pid=pid,
                )
            if waited_s > _NOTE_AFTER_S and not was_noted:
                note(f"waiting for the daemon to save its contexts (at most {limit_s:.0f} s)")
                was_noted = True
            self._pause(_POLL_S)

    def _await_welcome(self) -> Endpoint:
        """The daemon's own greeting is the only proof; a job that keeps dying is quoted."""
        deadline = time.monotonic() + START_S
        dead_polls = 0
        while time.monotonic() < deadline:
            loaded = self.launchctl.find(self.job.label)
            with contextlib.suppress(DaemonUnreachable):
                found = read_endpoint(self.job.home.root)
                if loaded is not None and loaded.pid == found.pid:
                    self.greet(found)
                    return found
            is_dead = loaded is not None and loaded.pid is None and bool(loaded.last_exit_code)
            dead_polls = dead_polls + 1 if is_dead else 0
            if dead_polls >= _DEAD_POLLS:  # once may be the moment before launchd starts it
                break
            self._pause(_POLL_S)
        raise HotseatError("service_failed", self._why_not(), label=self.job.label)

    def _why_not(self) -> str:
        loaded = self.launchctl.find(self.job.label) or LoadedJob()
        ended = f" (exit code {loaded.last_exit_code})" if loaded.last_exit_code else ""
        words = last_words(self.job.home.logs_dir / SERVICE_LOG)
        return (
            f"the job is loaded but its daemon does not answer{ended}: {words}; correct that, then "
            "`hotseat service restart`"
        )

    def _pid(self) -> int | None:
        loaded = self.launchctl.find(self.job.label)
        return loaded.pid if loaded is not None else None

    def _refuse_powerless(self) -> None:
        """What a job of the system is asked to do, root has to ask."""
        if self.job.account is not None:
            refuse_unfit(self.job.account)

    def _refuse_second_job(self) -> None:
        """One home, one daemon: a job of the login session would be in the way of the other."""
        account = self.job.account
        if account is None:
            return
        agent = account.home / AGENTS / self.plist_path.name
        if agent.exists():
            raise HotseatError(
                "already_running",
                f"{account.name} has a service of the login session for this home ({agent}); "
                "remove it first, without sudo: `hotseat service uninstall`",
                plist=str(agent),
            )

    def _refuse_missing(self) -> None:
        if not self.is_installed:
            raise HotseatError(
                "service_failed",
                f"the service is not installed: there is no {self.plist_path}; "
                "`hotseat service install`",
                plist=str(self.plist_path),
            )

    def _refuse_protected(self) -> None:
        """A job without a grant hangs on a question, or dies, before it can say a word."""
        for place in protected_places(self.job.places, Path.home()).values():
            raise HotseatError(
                "invalid_config",
                f"{place.notice}, and a job hangs on that question; {way_out(place)}",
                path=place.path,
                root=place.root,
            )

    def _refuse_other_daemon(self) -> None:
        """A daemon started by hand holds the home: the job would die on its lock for ever."""
        from hotseat.supervisor.machine.processes import is_alive

        try:
            found = read_endpoint(self.job.home.root)
        except DaemonUnreachable:
            return
        if is_alive(found.pid) and found.pid != self._pid():
            raise HotseatError(
                "already_running",
                f"daemon {found.pid} of {self.job.home.root} was started by hand; end it first: "
                "`hotseat stop`",
                pid=found.pid,
            )


def way_out(place: ProtectedPlace) -> str:
    """Of a folder that needs a grant."""
    if place.what == HOME_PLACE:
        return f"set {HOME_VARIABLE} to a folder elsewhere, or move it"
    return (
        f"`uv tool install` or `pipx install` puts hotseat elsewhere; or move the clone out of "
        f"{place.root} and make its environment anew"
    )


def open_service(*, system: bool = False) -> Service:
    """The service of this home, with deadlines from its settings.

    One of the system if that is asked for, or is what was installed.
    """
    account = own_account()
    system = system or is_of_system(account)
    home = home_of(account) if system else Home.find()
    limits = load_settings(home.config).deadlines
    program = stable_program(sys.argv[0])
    job = make_job(home, program, limits, account if system else None)
    return Service(job, Launchctl(system=system))


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or the one before; launchd wants it writable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as sink:
        os.fchmod(sink.fileno(), 0o644)
        sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    draft.replace(path)


def last_words(path: Path) -> str:
    """The last line of a file of output."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else f"it left no word in {path}"
