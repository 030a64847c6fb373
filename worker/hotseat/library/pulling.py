"""Fetches a repository of the hub into the hub's own cache, through the hub's own client.

Pinning and the cache's layout are the client's, the mirror is its HF_ENDPOINT. While it runs it
goes on from where a connection broke; a later try keeps the files that are whole. Only what mlx-lm
reads of a model is fetched, and no code.
"""

import errno
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import tqdm
from msgspec import Struct

from hotseat.library.discovery.estimating import estimate_gguf, estimate_listed
from hotseat.library.folder import read_table
from hotseat.library.gguf.families import SUPPORTED
from hotseat.library.gguf.parts import part_files, whole_name
from hotseat.library.hub_gguf import gguf_models, list_models, read_remote_head
from hotseat.library.mlx_kinds import why_unsupported
from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.library.working_set import working_set_bytes
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.model_files import CONFIG_FILE, WEIGHTS_GLOB
from hotseat.protocol.pulls import Pulled, PullPlan

_FETCHED: Final = ("*.json", WEIGHTS_GLOB, "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt")
_PARTIAL: Final = ".incomplete"
_BYTES_BAR: Final = "huggingface_hub.snapshot_download"
"""What the client calls its bar of bytes that are on the disk."""


class Wanted(Struct, frozen=True):
    """A repository, at a branch, tag or commit."""

    repository: str
    revision: str = constants.DEFAULT_REVISION
    file: str = ""
    """One GGUF file of it, instead of a folder of MLX weights."""

    @classmethod
    def parse(cls, text: str, file: str = "") -> "Wanted":
        """`OWNER/NAME`, or `OWNER/NAME@REVISION`."""
        repository, _, revision = text.partition("@")
        return cls(repository, revision or constants.DEFAULT_REVISION, file)


def plan_pull(wanted: Wanted) -> PullPlan:
    """Sizes by the list of files, cost by config.json, which is all that is fetched.

    Raises `HotseatError`: model_unavailable with `reason` gated, not_found, revision, unreachable
    or unsupported; invalid_request for a name that is none.
    """
    with _refusals(wanted):
        info = HfApi().model_info(wanted.repository, revision=wanted.revision)
        commit = str(info.sha)
        tree = HfApi().list_repo_tree(wanted.repository, revision=commit, recursive=True)
        sizes = {file.path: file.size for file in tree if isinstance(file, RepoFile)}
        _check_names(wanted, sizes)
        if wanted.file:
            sizes, record = _file_of(wanted, commit, sizes)
        else:
            sizes, record = _folder_of(wanted, commit, sizes)
    card: Any = info.card_data or {}
    cached = _cached(wanted.repository, commit)
    return PullPlan(
        repository=wanted.repository,
        revision=commit,
        size_bytes=sum(sizes.values()),
        missing_bytes=sum(size for name, size in sizes.items() if name not in cached),
        files=len(sizes),
        licence=str(card.get("license") or ""),
        record=record,
        working_set_bytes=working_set_bytes(),
    )


def pull(wanted: Wanted, on_progress: OnProgress) -> Pulled:
    """Fetches the files that are missing.

    Raises `HotseatError` as `plan_pull`, or disk_full before anything is fetched.
    """
    plan = plan_pull(wanted)
    _check_space(plan.missing_bytes)
    progress = ByteProgress(on_progress, f"fetching {wanted.repository}", plan.missing_bytes)
    with _refusals(wanted):
        path = snapshot_download(
            wanted.repository,
            revision=wanted.revision,
            allow_patterns=_patterns(wanted),
            tqdm_class=_bar(progress),
        )
    return Pulled(path=str(Path(path) / wanted.file), licence=plan.licence)


def _folder_of(
    wanted: Wanted, commit: str, sizes: dict[str, int]
) -> tuple[dict[str, int], ModelRecord]:
    """Files of the MLX folder, and what it would cost."""
    config = _config(wanted, commit)
    sizes = {name: size for name, size in sizes.items() if _is_fetched(name)}
    reason = why_unsupported(Path(wanted.repository), config)
    if reason:
        raise _unusable(wanted, "unsupported", reason, "choose another model")
    weights = sum(size for name, size in sizes.items() if fnmatch(name, WEIGHTS_GLOB))
    return sizes, estimate_listed(wanted.repository.rpartition("/")[2], config, weights)


def _file_of(
    wanted: Wanted, commit: str, sizes: dict[str, int]
) -> tuple[dict[str, int], ModelRecord]:
    """The GGUF file with its other parts, and what it would cost by its head."""
    models = gguf_models(sizes)
    parts = models.get(wanted.file)
    if parts is None:
        there = list_models(wanted.repository, models, sizes) if models else "it holds none"
        what = f"it has no whole GGUF model of the name {wanted.file!r}"
        raise _unusable(wanted, "unsupported", what, there)
    head = read_remote_head(wanted.repository, commit, wanted.file)
    kind = str(head.get("general.architecture", ""))
    if kind and kind not in SUPPORTED:
        what = f"{wanted.file} is of kind {kind}; convertible are {', '.join(SUPPORTED)}"
        raise _unusable(wanted, "unsupported", what, "choose an MLX conversion of this model")
    sizes = {name: sizes[name] for name in parts}
    name = whole_name(Path(wanted.file))
    return sizes, estimate_gguf(name, Path(wanted.file), head, sum(sizes.values()))


def _patterns(wanted: Wanted) -> list[str]:
    """Names that the client fetches; those of a file mean only themselves."""
    if not wanted.file:
        return list(_FETCHED)
    return [re.sub(r"([*?\[])", r"[\1]", str(part)) for part in part_files(Path(wanted.file))]


def drop_partial_files() -> None:
    """Removes what this process was fetching, when it has no time to end in order."""
    for file in psutil.Process().open_files():
        if file.path.endswith(_PARTIAL):
            Path(file.path).unlink(missing_ok=True)


def _is_fetched(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _FETCHED)


def _check_names(wanted: Wanted, sizes: dict[str, int]) -> None:
    """A model lies at the top of its repository; names that lead out of it are refused."""
    if any(name.startswith("/") or ".." in name.split("/") for name in sizes):
        raise _unusable(wanted, "unsupported", "it has files outside of itself", "do not use it")
    if wanted.file or (CONFIG_FILE in sizes and any(fnmatch(name, WEIGHTS_GLOB) for name in sizes)):
        return
    models = gguf_models(sizes)
    if models:
        raise _unusable(
            wanted,
            "unsupported",
            f"it holds GGUF files, of which one is a model: "
            f"{list_models(wanted.repository, models, sizes)}",
            f"choose one with `hotseat pull {wanted.repository} --file {next(iter(models))}`",
        )
    raise _unusable(
        wanted,
        "unsupported",
        f"it has no {CONFIG_FILE} with {WEIGHTS_GLOB} beside it",
        "choose a repository with safetensors weights",
    )


def _config(wanted: Wanted, commit: str) -> dict[str, Any]:
    """config.json, which is not kept: a plan leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        file = hf_hub_download(
            wanted.repository, CONFIG_FILE, revision=commit, cache_dir=folder, tqdm_class=_silent()
        )
        config = read_table(Path(file)) or {}
    if not isinstance(config.get("model_type"), str):
        raise _unusable(
            wanted, "unsupported", f"its {CONFIG_FILE} names no model_type", "choose another model"
        )
    return config


def _cached(repository: str, commit: str) -> frozenset[str]:
    """Names of the files of this commit that are in the cache already."""
    folder = f"models--{repository.replace('/', '--')}"
    snapshot = Path(constants.HF_HUB_CACHE) / folder / "snapshots" / commit
    if not snapshot.is_dir():
        return frozenset()
    return frozenset(
        str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()
    )


def _check_space(missing_bytes: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < missing_bytes:
        raise _disk_full(free, missing_bytes)


def _disk_full(free: int, needed: int) -> HotseatError:
    return HotseatError(
        "disk_full",
        f"{constants.HF_HUB_CACHE}: {free / GIB:.1f} GiB free, {needed / GIB:.1f} GiB are to be "
        "fetched; make room, or set HF_HUB_CACHE to a larger disk",
        free_bytes=free,
        needed_bytes=needed,
    )


def _bar(progress: ByteProgress) -> type[tqdm]:
    """A bar of the client's that shows nothing and counts bytes; its threads share one."""
    lock = threading.Lock()

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("name") == _BYTES_BAR
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self._counts and n:
                with lock:
                    progress.add(int(n))

    return Bar


def _silent() -> type[tqdm]:
    return _bar(ByteProgress(lambda _phase, _percent: None, "", 1))


@contextmanager
def _refusals(wanted: Wanted) -> Iterator[None]:
    """What the client raises, as an error of the table with the way out."""
    page = f"{constants.ENDPOINT}/{wanted.repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except HFValidationError as error:
        raise HotseatError(
            "invalid_request",
            f"{wanted.repository!r} is no name of a repository; write OWNER/NAME",
            repository=wanted.repository,
        ) from error
    except GatedRepoError as error:
        way = f"accept its terms on {page}, then {log_in}"
        raise _unusable(wanted, "gated", "its owner asks for consent", way) from error
    except RepositoryNotFoundError as error:
        way = f"check the name; if it is private, {log_in}"
        raise _unusable(
            wanted, "not_found", f"{constants.ENDPOINT} shows no such repository", way
        ) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(wanted, error) from error
        what = f"it has no revision {wanted.revision!r}"
        raise _unusable(wanted, "revision", what, f"see {page}/tree/main") from error
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError) as error:
        raise _unreachable(wanted, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(shutil.disk_usage(constants.HF_HUB_CACHE).free, 0) from error
        raise _unreachable(wanted, error) from error


def _unreachable(wanted: Wanted, error: Exception) -> HotseatError:
    said = " ".join(str(error.__cause__ or error).split())[:200]
    return _unusable(
        wanted,
        "unreachable",
        f"{constants.ENDPOINT} could not be asked, or the connection broke ({said})",
        "check the network or HF_ENDPOINT and run it again: files that are whole are kept",
    )


def _unusable(wanted: Wanted, reason: str, what: str, way_out: str) -> HotseatError:
    return HotseatError(
        "model_unavailable",
        f"{wanted.repository}: {what}; {way_out}",
        repository=wanted.repository,
        revision=wanted.revision,
        reason=reason,
    )
