"""Models that Ollama and LM Studio have in memory: their names, and unloading them.

Blocks for as long as a program takes to answer, each within a limit: call it in a thread. Must
not know what hotseat seats. A program that is not there, says nonsense or is late has no models.
"""

import http.client
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import psutil
import structlog
from msgspec import Struct, field

from hotseat.protocol.limits import MIB
from hotseat.supervisor.machine.figures import LoadedElsewhere

ASK_S: Final = 1.0
UNLOAD_S: Final = 15.0
MAX_ANSWER_BYTES: Final = MIB
OLLAMA: Final = "Ollama"
LM_STUDIO: Final = "LM Studio"
_OLLAMA_PORT: Final = 11_434
_OWN_HOSTS: Final = frozenset({"", "0.0.0.0", "127.0.0.1", "::", "::1", "localhost"})  # noqa: S104
_LMS_ASK_S: Final = 3.0
_LMS_FOLDERS: Final = (".lmstudio/bin", ".cache/lm-studio/bin")
_LM_STUDIO_PROCESSES: Final = ("LM Studio", "llmster")
log = structlog.get_logger()


class OtherProgram(Protocol):
    """A program that keeps models in memory."""

    @property
    def name(self) -> str:
        """As people know it."""

    def loaded(self) -> list[LoadedElsewhere]:
        """What it has in memory now."""
        ...

    def unload(self, model: str) -> None:
        """Has it let go of a model. Whether it did shows in `loaded`."""
        ...


class _OllamaModel(Struct, frozen=True):
    name: str
    size: int = 0


class _OllamaModels(Struct, frozen=True):
    models: list[_OllamaModel] = []


class _LmsModel(Struct, frozen=True):
    identifier: str
    size_bytes: int = field(default=0, name="sizeBytes")
    device: str | None = field(default=None, name="deviceIdentifier")
    """Of another machine, when models are shared between several."""


class Ollama:
    """Its HTTP interface on this machine (docs.ollama.com/api/ps)."""

    name = OLLAMA

    def __init__(self, port: int | None) -> None:
        """None: its models are on another machine, so it holds nothing here."""
        self._port = port

    def loaded(self) -> list[LoadedElsewhere]:
        """By `GET /api/ps`."""
        answer = self._ask("GET", "/api/ps", None, ASK_S)
        try:
            found = msgspec.json.decode(answer, type=_OllamaModels).models
        except msgspec.DecodeError:
            return []
        return [
            LoadedElsewhere(
                program=OLLAMA,
                model=model.name,
                size_bytes=model.size,
                command=f"ollama stop {shlex.quote(model.name)}",
            )
            for model in found
            if _is_name(model.name)
        ]

    def unload(self, model: str) -> None:
        """What `ollama stop` does: an empty request that keeps the model for no time."""
        body = {"model": model, "keep_alive": 0, "stream": False}
        self._ask("POST", "/api/generate", body, UNLOAD_S)

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> bytes:
        if self._port is None:
            return b""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            data = None if body is None else msgspec.json.encode(body)
            connection.request(verb, path, data, {"Content-Type": "application/json"})
            return connection.getresponse().read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()


class LmStudio:
    """Its command `lms`, asked only while LM Studio runs: it would start the program."""

    name = LM_STUDIO

    def __init__(self, home: Path, processes: Sequence[str] = _LM_STUDIO_PROCESSES) -> None:
        self._home = home
        self._processes = processes

    def loaded(self) -> list[LoadedElsewhere]:
        """By `lms ps --json`."""
        try:
            found = msgspec.json.decode(self._run(_LMS_ASK_S, "ps", "--json"), type=list[_LmsModel])
        except msgspec.DecodeError:
            return []
        return [
            LoadedElsewhere(
                program=LM_STUDIO,
                model=model.identifier,
                size_bytes=model.size_bytes,
                command=f"lms unload {shlex.quote(model.identifier)}",
            )
            for model in found
            if model.device is None and _is_name(model.identifier)
        ]

    def unload(self, model: str) -> None:
        """By `lms unload`, whose exit code says nothing."""
        self._run(UNLOAD_S, "unload", model)

    def _run(self, timeout_s: float, *arguments: str) -> bytes:
        program = self._find() if self._is_running() else None
        if program is None:
            return b""
        try:
            done = subprocess.run(
                (program, *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return b""
        return done.stdout[:MAX_ANSWER_BYTES]

    def _find(self) -> str | None:
        """A service has a short PATH, so its own folders are looked into as well."""
        folders = (str(self._home / folder) for folder in _LMS_FOLDERS)
        return shutil.which("lms") or shutil.which("lms", path=os.pathsep.join(folders))

    def _is_running(self) -> bool:
        names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
        return any(name.startswith(tuple(self._processes)) for name in names)


def ollama_port(address: str | None) -> int | None:
    """Where Ollama listens on this machine by its OLLAMA_HOST; None: it is another machine's."""
    if not address:
        return _OLLAMA_PORT
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        port = parts.port
    except ValueError:
        return _OLLAMA_PORT
    if (parts.hostname or "") not in _OWN_HOSTS:
        return None
    return port or _OLLAMA_PORT


def other_programs() -> tuple[OtherProgram, ...]:
    """Those that are looked at on this machine."""
    return Ollama(ollama_port(os.environ.get("OLLAMA_HOST"))), LmStudio(Path.home())


def loaded_elsewhere(programs: Sequence[OtherProgram]) -> list[LoadedElsewhere]:
    """What all of them have in memory, largest first."""
    found = [model for program in programs for model in program.loaded()]
    return sorted(found, key=lambda model: model.size_bytes, reverse=True)


def unload_elsewhere(programs: Sequence[OtherProgram]) -> list[LoadedElsewhere]:
    """Unloads what all of them have in memory; returns what is gone."""
    gone = []
    for program in programs:
        before = program.loaded()
        for model in before:
            program.unload(model.model)
        left = {model.model for model in program.loaded()} if before else set()
        gone += [model for model in before if model.model not in left]
    return gone


def _is_name(text: str) -> bool:
    """Nothing that a terminal or a command would take for something else."""
    return bool(text) and text.isprintable() and not text.startswith("-")
