"""Lines of the library and of the scan: their text, and what a reader makes of it."""

import io
import json
from pathlib import Path

import msgspec
import pytest

from hotseat.library.__main__ import _Lines
from hotseat.protocol.process_lines import (
    LIBRARY_LINE,
    SCAN_LINE,
    FetchedSample,
    LibraryFailure,
    LibraryLine,
    LibraryStep,
    ScanCount,
    ScanLine,
    ScannedFile,
)

SAMPLE = FetchedSample(name="ä", gguf_path=Path("/a.gguf"), licence="MIT", chat=True)
LIBRARY = {
    '{"progress": {"phase": "digest", "percent": 1.4}}': LibraryLine(
        progress=LibraryStep(phase="digest", percent=1.4)
    ),
    '{"error": {"code": "internal", "message": "m", "facts": {}}}': LibraryLine(
        error=LibraryFailure(code="internal", message="m")
    ),
    '{"samples": [{"name": "\\u00e4", "gguf_path": "/a.gguf", "licence": "MIT", "chat": true}]}': (
        LibraryLine(samples=(SAMPLE,))
    ),
}
SCAN = {
    b'{"progress":{"files":0,"size_bytes":0}}': ScanLine(progress=ScanCount(files=0, size_bytes=0)),
    b'{"file":{"tag":"t","file":"f","size_bytes":4,"reason":"no"}}': ScanLine(
        file=ScannedFile(tag="t", file="f", size_bytes=4, reason="no")
    ),
    b'{"file":{"tag":"t","file":"f","size_bytes":4,"tokens":"AAE="}}': ScanLine(
        file=ScannedFile(tag="t", file="f", size_bytes=4, tokens=b"\0\1")
    ),
}


@pytest.mark.parametrize(("text", "line"), LIBRARY.items())
def test_line_of_the_library_is_this_text_and_is_read_back(text, line):
    out = io.StringIO()
    _Lines(out).write(line)
    assert out.getvalue() == text + "\n"
    assert LIBRARY_LINE.decode(text) == line


@pytest.mark.parametrize(("text", "line"), SCAN.items())
def test_line_of_the_scan_is_this_text_and_is_read_back(text, line):
    assert msgspec.json.encode(line) == text
    assert SCAN_LINE.decode(text) == line


def test_line_with_a_field_of_another_type_is_refused():
    with pytest.raises(msgspec.ValidationError):
        LIBRARY_LINE.decode(json.dumps({"progress": {"phase": 1, "percent": 0}}))
