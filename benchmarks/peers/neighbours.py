"""Other servers as processes of their own, asked over HTTP as their users do.

Must not know hotseat, targets or which models are compared.
"""

import http.client
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import console

START_S = 90.0
ANSWER_S = 180.0
RAW_PATH = "/v1/completions"
CHAT_PATH = "/v1/chat/completions"
MLX_SERVE = "mlx-serve==0.3.0"
Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """One reply. `cached_tokens`: of the prompt, what the server says it had KV of."""

    first_token_s: float
    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int = 0


class HttpServer:
    """A started server with the chat endpoint that both neighbours have."""

    def __init__(self, command: Sequence[str], port: int, environment: dict[str, str]) -> None:
        self._port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} | environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        """What packages of OpenAI's dialect are given."""
        return f"http://127.0.0.1:{self._port}/v1"

    def wait_until_up(self) -> None:
        """Returns when /health answers 200."""
        deadline = time.monotonic() + START_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a neighbour did not start: {self._last_words()}")
            time.sleep(0.1)

    def ask(self, model: str, what: str | Messages, max_tokens: int) -> Answer:
        """Text to go on with, or messages; greedy; timed from before the connection to text."""
        body = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        is_raw = isinstance(what, str)
        body |= {"prompt": what} if is_raw else {"messages": list(what)}
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        try:
            payload = json.dumps(body)
            headers = {"Content-Type": "application/json"}
            connection.request("POST", RAW_PATH if is_raw else CHAT_PATH, payload, headers)
            return self._read(connection.getresponse(), started)
        finally:
            connection.close()

    def close(self) -> None:
        """Ends the server and what it started; it leads a process group of its own."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

    def _read(self, response: http.client.HTTPResponse, started: float) -> Answer:
        if response.status != 200:
            raise RuntimeError(f"a neighbour answered {response.status}: {self._last_words()}")
        first_s, text, usage = 0.0, "", {}
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[len(b"data: ") :])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
                first_s = first_s or (time.monotonic() - started if piece else 0.0)
                text += piece
        if not first_s:
            raise RuntimeError(f"a neighbour sent no text: {self._last_words()}")
        details = usage.get("prompt_tokens_details") or {}
        cached = int(details.get("cached_tokens", 0))
        prompt, made = (int(usage.get(f"{kind}_tokens", 0)) for kind in ("prompt", "completion"))
        return Answer(first_s, text, prompt, cached, made)

    def _is_up(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2000))
        return self._log.read().decode(errors="replace")


def start_mlx_lm_server(model: Path) -> HttpServer:
    """mlx_lm.server of this installation, `model` loaded; models are named by their folders."""
    port = _free_port()
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(model)]
    server = HttpServer([*command, "--host", "127.0.0.1", "--port", str(port)], port, {})
    server.wait_until_up()
    return server


def start_mlx_serve(cache: Path, models: Sequence[Path]) -> HttpServer:
    """mlx-serve in an environment of its own; models are named by the last part of their path."""
    binaries = _install_mlx_serve(cache)
    port = _free_port()
    settings = cache / "mlx-serve.yaml"
    entries = [{"name": path.name, "type": "text", "hf_path": str(path)} for path in models]
    logs = {"log_dir": str(cache / "mlx-serve-logs")}
    facts = {"mlx_port": _free_port(), "manager_port": port, "monitoring": logs, "models": entries}
    settings.write_text(json.dumps(facts))  # JSON is YAML
    command = [str(binaries / "mlx-serve"), "start", "--host", "127.0.0.1"]
    server = HttpServer(command, port, {"MLX_SERVE_CONFIG": str(settings)})
    server.wait_until_up()
    return server


def _install_mlx_serve(cache: Path) -> Path:
    """Its bin folder; the same mlx and mlx-lm as here, so that only the server differs."""
    folder = cache / MLX_SERVE.replace("==", "-")
    done = folder / "complete"
    versions = [MLX_SERVE, *(f"{name}=={importlib.metadata.version(name)}" for name in _SAME)]
    if not done.exists() or done.read_text() != repr(versions):
        console.print(f"installing {', '.join(versions)} into {folder} (once)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *versions], check=True)
        done.write_text(repr(versions))
    return folder / "bin"


_SAME = ("mlx-lm", "mlx", "mlx-cpu") if sys.platform == "linux" else ("mlx-lm", "mlx")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
