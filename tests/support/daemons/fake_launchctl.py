#!/usr/bin/env python3
"""A `launchctl` that keeps jobs in a folder, starts real processes, and fails as the real one does.

`FAKE_LAUNCHD` is the folder. `faults.json` there:
    busy_bootstraps   so many answers "5: Input/output error" before one works
    slow_bootout      so many `print`s still find the job after bootout said "in progress"
    no_domain         every bootstrap answers 125
    broken_start      jobs are loaded but their process ends with this code
`calls.jsonl` has every call. Nothing is ever sent SIGKILL: a test that needs one found a defect.
"""

import json
import os
import plistlib
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["FAKE_LAUNCHD"])


def read(name, default):
    path = ROOT / name
    return json.loads(path.read_text()) if path.exists() else default


def write(name, value):
    draft = ROOT / f"{name}.draft"
    draft.write_text(json.dumps(value))
    draft.replace(ROOT / name)


def take(fault):
    """Counts a fault down; True while it lasts."""
    faults = read("faults.json", {})
    left = faults.get(fault, 0)
    if left:
        write("faults.json", {**faults, fault: left - 1})
    return bool(left)


def is_alive(job):
    return not Path(job["end"]).exists()


def spawn(job):
    """Starts the program of a job; a process that stays behind reaps it and notes its end."""
    content = plistlib.loads(Path(job["plist"]).read_bytes())
    end = ROOT / f"ended-{content['Label']}"
    end.unlink(missing_ok=True)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = begin(content)
        os.write(writer, str(child.pid).encode())
        for number in (0, 1, 2, reader, writer):
            os.close(number)
        end.write_text(str(child.wait()))
        os._exit(0)
    os.close(writer)
    return {**job, "pid": int(os.read(reader, 32)), "end": str(end)}


def begin(content):
    environment = {**content.get("EnvironmentVariables", {}), "HOME": os.environ["HOME"]}
    for name in ("HOTSEAT_SEAT_LOCK", "HOTSEAT_WORKER_COMMAND", "HOTSEAT_STUB"):
        if name in os.environ:
            environment[name] = os.environ[name]
    program = content["ProgramArguments"]
    broken = read("faults.json", {}).get("broken_start")
    if broken:
        program = ["/bin/sh", "-c", f"echo no such module >&2; exit {broken}"]
    with Path(content["StandardErrorPath"]).open("ab") as output:
        return subprocess.Popen(
            program,
            env=environment,
            cwd=content["WorkingDirectory"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def code_of(job):
    end = Path(job["end"])
    return int(end.read_text() or 0) if end.exists() else None


def fail(code, text):
    print(text)
    return code


def do_print(target):
    label = target.rpartition("/")[2]
    jobs = read("jobs.json", {})
    job = jobs.get(label)
    if job and job.get("leaving") and not take("slow_bootout") and not is_alive(job):
        del jobs[label]
        write("jobs.json", jobs)
        job = None
    if job is None:
        return fail(113, f'Could not find service "{label}" in domain for user gui: 501')
    alive = is_alive(job)
    print(f"{target} = {{")
    print(f"\tstate = {'running' if alive else 'not running'}")
    if alive:
        print(f"\tpid = {job['pid']}")
    code = code_of(job)
    print(f"\tlast exit code = {'(never exited)' if code is None else code}")
    print("}")
    return 0


def do_bootstrap(_domain, plist):
    content = plistlib.loads(Path(plist).read_bytes())
    label = content["Label"]
    jobs = read("jobs.json", {})
    if read("faults.json", {}).get("no_domain"):
        return fail(125, "Bootstrap failed: 125: Domain does not support specified action")
    if label in read("disabled.json", []) or label in jobs or take("busy_bootstraps"):
        return fail(5, "Bootstrap failed: 5: Input/output error")
    write("jobs.json", {**jobs, label: spawn({"plist": plist})})
    return 0


def do_bootout(target):
    label = target.rpartition("/")[2]
    jobs = read("jobs.json", {})
    job = jobs.get(label)
    if job is None:
        return fail(3, "Boot-out failed: 3: No such process")
    if is_alive(job):
        os.kill(job["pid"], signal.SIGTERM)
    write("jobs.json", {**jobs, label: {**job, "leaving": True}})
    return fail(36, "Boot-out failed: 36: Operation now in progress")


def do_enable(target):
    disabled = read("disabled.json", [])
    write("disabled.json", [name for name in disabled if name != target.rpartition("/")[2]])
    return 0


def do_print_disabled(_domain):
    print("disabled services = {")
    for label in read("disabled.json", []):
        print(f'\t"{label}" => disabled')
    print("}")
    return 0


def do_kickstart(target):
    label = target.rpartition("/")[2]
    jobs = read("jobs.json", {})
    if label not in jobs:
        return fail(113, "Could not find service")
    if not is_alive(jobs[label]):
        write("jobs.json", {**jobs, label: spawn(jobs[label])})
    return 0


def do_kill(number, target):
    job = read("jobs.json", {}).get(target.rpartition("/")[2])
    if job is None or not is_alive(job):
        return fail(3, "No process to signal.")
    os.kill(job["pid"], getattr(signal, number))
    return 0


VERBS = {
    "print": do_print,
    "bootstrap": do_bootstrap,
    "bootout": do_bootout,
    "enable": do_enable,
    "print-disabled": do_print_disabled,
    "kickstart": do_kickstart,
    "kill": do_kill,
}

if __name__ == "__main__":
    with (ROOT / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    sys.exit(VERBS[sys.argv[1]](*sys.argv[2:]))
