"""What `import` passes on, and what it tells before anything is written."""

import msgspec
import pytest

from hotseat.cli.home import library_process
from hotseat.cli.home.library_process import Making
from hotseat.cli.main import run
from hotseat.protocol.conversions import ConversionPlan, TypeChange
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.process_lines import LibraryLine

PLAN = ConversionPlan(
    source="/models/m.gguf",
    architecture="qwen3",
    stored_bytes=90 * MIB,
    size_bytes=100 * MIB,
    free_bytes=7 * GIB,
    types=(
        TypeChange(
            stored="Q4_K",
            becomes="4-bit g32",
            tensors=3,
            stored_bytes=60 * MIB,
            size_bytes=66 * MIB,
            requantised=False,
            error=0.0,
        ),
        TypeChange(
            stored="Q6_K",
            becomes="8-bit g32",
            tensors=1,
            stored_bytes=30 * MIB,
            size_bytes=34 * MIB,
            requantised=True,
            error=0.0042,
        ),
    ),
    has_template=False,
)


@pytest.mark.parametrize(
    ("making", "arguments"),
    [
        (Making.of(None, None, keep=False), []),
        (Making.of("6", "32", keep=True), ["--bits=6", "--group-size=32", "--keep"]),
    ],
)
def test_wishes_are_passed_to_the_library(making, arguments):
    assert making.arguments() == arguments


@pytest.mark.parametrize("as_json", [False, True])
def test_dry_run_tells_sizes_types_and_errors(tmp_path, monkeypatch, capsys, as_json):
    asked = []

    def answer(arguments, _on_progress):
        asked.append(arguments)
        return LibraryLine(conversion=PLAN)

    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path))
    monkeypatch.setattr(library_process, "run_library", answer)
    words = ["import", "m.gguf", "--bits", "8", "--dry-run", *(["--json"] if as_json else [])]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert asked[0][-2:] == ["--bits=8", "--dry-run"]
    if as_json:
        assert msgspec.json.decode(out, type=ConversionPlan) == PLAN
        return
    assert "90.0 MiB -> 100.0 MiB" in out
    assert "as it is" in out and "0.42%" in out
    assert "none in the file" in out
