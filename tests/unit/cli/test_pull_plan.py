"""What is told before a byte of weights is fetched: sizes, fit, a name that is taken."""

import msgspec
import pytest
from tests.support.models.records import model_record

from hotseat.cli.home import pulling
from hotseat.cli.home.pulling import fetch_model, plan_pull
from hotseat.cli.views.pull import render_pull
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.process_lines import LibraryLine
from hotseat.protocol.pulls import PullPlan

REPOSITORY = "o/Tiny"


def quiet(_phase, _percent):
    """Progress that nobody watches."""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The hub as the library tells of it; the calls of the library."""
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path / "home"))
    calls = []

    def answer(weights_bytes, **changes):
        def run(arguments, _on_progress):
            calls.append(arguments)
            record = model_record("Tiny", weights_bytes=weights_bytes, **changes)
            return LibraryLine(
                pull_plan=PullPlan(
                    repository=REPOSITORY,
                    revision="c" * 40,
                    size_bytes=weights_bytes + MIB,
                    missing_bytes=MIB,
                    files=5,
                    licence="mit",
                    record=record,
                )
            )

        monkeypatch.setattr(pulling, "run_library", run)
        return calls

    return answer


def test_plan_says_size_what_is_missing_and_that_it_fits(library, capsys):
    library(64 * MIB, parameters=10**8)
    view = plan_pull(REPOSITORY, quiet)
    assert (view.fits, view.reason, view.missing_bytes) == (True, "", MIB)
    render_pull(view)
    out = capsys.readouterr().out
    assert "o/Tiny at cccccccccccc" in out and "65.0 MiB" in out and "1.0 MiB" in out


def test_model_that_does_not_fit_is_not_fetched(library):
    calls = library(10_000 * GIB)
    view = plan_pull(REPOSITORY, quiet)
    assert view.fits is False
    with pytest.raises(HotseatError) as caught:
        fetch_model(view, REPOSITORY, None, quiet, even_if_unfit=False)
    assert caught.value.code == "model_unfit" and "--force" in caught.value.message
    assert calls == [["pull", REPOSITORY, "--dry-run"]]


def test_configuration_that_tells_too_little_is_no_answer(library):
    library(MIB, layers=())
    view = plan_pull(REPOSITORY, quiet)
    assert (view.fits, view.max_context_tokens) == (None, None)
    assert "does not tell" in view.reason


def test_name_that_is_taken_is_told_before_fetching(library, tmp_path):
    calls = library(MIB, parameters=10**6)
    folder = tmp_path / "home/models/Tiny"
    folder.mkdir(parents=True)
    (folder / "model.json").write_bytes(msgspec.json.encode(model_record("Tiny")))
    view = plan_pull(REPOSITORY, quiet)
    with pytest.raises(HotseatError, match="--name"):
        fetch_model(view, REPOSITORY, None, quiet, even_if_unfit=False)
    assert calls == [["pull", REPOSITORY, "--dry-run"]]
