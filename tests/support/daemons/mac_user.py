"""A user's folders, a launchd that is none, and the command line in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.daemons.live_daemon import wait_for

HOTSEAT = Path(sys.executable).with_name("hotseat")
FAKE = "tests.support.daemons.fake_launchctl"
SETTINGS = '[seat]\nstandby = "off"\n'


class Mac:
    """A user's folders, a launchd, and the command line in between."""

    def __init__(self, base, program=HOTSEAT, settings=SETTINGS):
        """`program` is the `hotseat` that is found on PATH and called."""
        self.base = base
        self.hotseat = program
        self.user = base / "u"
        self.user.mkdir()
        self.home = self.user / ".hotseat"
        self.home.mkdir(mode=0o700)
        (self.home / "config.toml").write_text(settings)
        self.launchd = base / "launchd"
        self.launchd.mkdir()
        launchctl = base / "launchctl"
        launchctl.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {FAKE} "$@"\n')
        launchctl.chmod(0o755)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("HOTSEAT_", "SUDO"))}
        self.env |= {
            "HOME": str(self.user),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "FAKE_LAUNCHD": str(self.launchd),
            "HOTSEAT_LAUNCHCTL": str(launchctl),
            "HOTSEAT_SEAT_LOCK": str(base / "seat.lock"),
        }
        self.plist = self.user / "Library" / "LaunchAgents" / "local.hotseat.plist"

    def call(self, *args):
        done = subprocess.run(
            [str(self.hotseat), *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def service(self, *args):
        """The JSON a command of the service prints; it has to succeed."""
        code, out, err = self.call("service", *args, "--json")
        assert code == 0, out + err
        return json.loads(out)

    def fail(self, *args):
        """The error a command of the service prints."""
        code, out, _ = self.call("service", *args, "--json")
        assert code != 0
        return json.loads(out)["error"]

    def has_faults(self, **faults):
        (self.launchd / "faults.json").write_text(json.dumps(faults))

    def verbs(self):
        calls = (self.launchd / "calls.jsonl").read_text().splitlines()
        return [json.loads(line)[0] for line in calls]

    def jobs(self):
        path = self.launchd / "jobs.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def end(self):
        self.has_faults()
        for job in self.jobs().values():
            if not Path(job["end"]).exists():
                os.kill(job["pid"], signal.SIGTERM)
            wait_for(Path(job["end"]).exists, what="daemon gone")
