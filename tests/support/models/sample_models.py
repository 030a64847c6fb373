"""The real sample models, fetched once into the checkout's cache and imported once per process."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from hotseat.protocol.model import ModelRecord

CACHE = Path(os.environ.get("HOTSEAT_SAMPLES", Path(__file__).parents[3] / ".cache" / "samples"))
SMOLLM2 = "smollm2-135m"
GEMMA3 = "gemma3-270m"


@functools.cache
def sample_record(name):
    """The record of an imported sample; its folder is removed when this process ends."""
    flags = [] if name == GEMMA3 else ["--without-gemma"]
    fetched = _library("fetch", "--cache", str(CACHE), *flags)["samples"]
    source = next(sample["gguf_path"] for sample in fetched if sample["name"] == name)
    home = _scratch() / "home"
    answer = _library("import", source, "--home", str(home), "--name", name)
    return msgspec.convert(answer["record"], ModelRecord)


@functools.cache
def _scratch():
    folder = tempfile.TemporaryDirectory(prefix="hsreal")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT = []


def _library(*arguments):
    """The last JSON line of the library process: its result."""
    command = [sys.executable, "-m", "hotseat.library", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
