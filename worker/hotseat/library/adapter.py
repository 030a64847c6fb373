"""A LoRA adapter of a model: refused here with the reason, or digested. Must not know records."""

from pathlib import Path

from mlx_lm.tuner.utils import load_adapters
from msgspec import structs

from hotseat.library.folder import digest_file, refusing, unavailable
from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.protocol.model import FileDigest
from hotseat.protocol.tags import ADAPTER_FILES
from hotseat.worker.model.building import build_model


def digest_adapter(folder: Path, adapter: Path, on_progress: OnProgress) -> tuple[FileDigest, ...]:
    """Digests of an adapter that fits the model of `folder`; names are absolute paths.

    Raises `HotseatError` (model_unavailable) for one that does not, with what mlx-lm says of it.
    """
    files = [adapter / name for name in ADAPTER_FILES]
    for file in files:
        if not file.is_file():
            raise unavailable(
                adapter, f"no adapter: it has no {file.name}", "give the folder mlx_lm.lora wrote"
            )
    what = f"the adapter does not fit {folder}"
    with refusing(adapter, what, "give an adapter that was trained on this model"):
        # Weights stay lazy: names and shapes are all that is compared.
        model, _config = build_model(folder)
        load_adapters(model, str(adapter))
    progress = ByteProgress(on_progress, "digest", sum(file.stat().st_size for file in files))
    return tuple(structs.replace(digest_file(file, progress), name=str(file)) for file in files)
