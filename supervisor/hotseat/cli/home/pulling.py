"""Whether a repository of the hub would fit here, and fetching it; needs no daemon."""

from hotseat.cli.home.fitting import planning_here
from hotseat.cli.home.library_process import OnProgress, import_model, run_library
from hotseat.cli.views.pull import PullView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.settings.placed_home import open_home


def plan_pull(repository: str, on_progress: OnProgress, file: str | None = None) -> PullView:
    """Size and fit of a repository, or of one of its files, by what its headers say."""
    found = run_library([*_pulling(repository, file), "--dry-run"], on_progress).pull_plan
    if found is None:
        raise HotseatError("internal", "the library ended without a plan")
    record = found.record
    plan = planning_here(found.working_set_bytes)(record)
    is_known = bool(record.layers)
    return PullView(
        repository=found.repository,
        name=record.name,
        file=file or "",
        revision=found.revision,
        files=found.files,
        size_bytes=found.size_bytes,
        missing_bytes=found.missing_bytes,
        licence=found.licence,
        architecture=record.architecture,
        quantisation=record.quantisation,
        weights_bytes=record.weights_bytes,
        fits=plan.fits if is_known else None,
        reason=plan.reason if is_known else "what was read does not tell its layers",
        remedy=plan.remedy if is_known else "",
        max_context_tokens=plan.max_context_tokens if is_known else None,
    )


def fetch_model(
    view: PullView,
    repository: str,
    name: str | None,
    on_progress: OnProgress,
    *,
    even_if_unfit: bool,
) -> ModelRecord:
    """Fetches and registers it. Raises `HotseatError`, model_unfit before a byte of weights."""
    if view.fits is False and not even_if_unfit:
        raise HotseatError(
            "model_unfit",
            f"{view.repository} does not fit: {view.reason}; {view.remedy}, or fetch it all the "
            "same with --force",
            repository=view.repository,
            weights_bytes=view.weights_bytes,
        )
    _check_name(view.repository, name or view.name)
    pulled = run_library(_pulling(repository, view.file), on_progress).pulled
    if pulled is None:
        raise HotseatError("internal", "the library ended without a folder")
    return import_model(pulled.path, name, pulled.licence, None, on_progress)


def _pulling(repository: str, file: str | None) -> list[str]:
    return ["pull", repository, *([f"--file={file}"] if file else [])]


def _check_name(repository: str, name: str) -> None:
    """Told before gigabytes are fetched: importing would refuse the name afterwards."""
    cached = f"models--{repository.replace('/', '--')}"
    for record in Registry(*open_home(), nobody).records():
        if record.name == name and cached not in record.source.path:
            raise HotseatError(
                "invalid_request",
                f"the name {name!r} belongs to a model made from {record.source.path}; give "
                "another one with --name",
                name=name,
                source=record.source.path,
            )
