"""What came out for one architecture, and for all of them, as it is kept in a file."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

RESULTS: Final = Path(__file__).parents[1] / "results" / "kinds.json"


class KindResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An architecture. Where `failure` is not empty, what comes after the failure is not known.

    `goes_on`: after each of three swaps with the tokens that it has without. `appends`: nothing but
    the new tokens of a turn is computed then. `rows`: several sequences share a step.
    """

    kind: str
    models: str
    attention: str = ""
    rows: bool = False
    appends: bool = False
    goes_on: bool = False
    cuts: str = ""
    tools: str = ""
    """Format of the calls that it made or was shown; empty for a family without."""
    is_forced: bool = False
    """A call was forced and could be read."""
    reasoning: bool = False
    adapters: bool = False
    is_refused: bool = False
    """Registering says that it cannot be served, and why: that is no failure of ours."""
    failure: str = ""


class Matrix(Struct, frozen=True, kw_only=True):
    """One run over all architectures. `untried`: others that mlx-lm has code for."""

    mlx_lm: str
    kinds: tuple[KindResult, ...]
    untried: tuple[str, ...]


def read_matrix(file: Path = RESULTS) -> Matrix:
    """The last run that was kept."""
    return msgspec.json.decode(file.read_bytes(), type=Matrix)


def write_matrix(matrix: Matrix, file: Path = RESULTS) -> None:
    """Keeps a run; the same run writes the same bytes."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(matrix), indent=1) + b"\n")


def model_kinds() -> frozenset[str]:
    """Names of the files of mlx-lm that hold a model, by their source."""
    found = find_spec("mlx_lm")
    places = found.submodule_search_locations if found is not None else None
    files = (Path(places[0]) / "models").glob("*.py") if places else ()
    return frozenset(
        file.stem for file in files if "\nclass ModelArgs" in file.read_text(encoding="utf-8")
    )
