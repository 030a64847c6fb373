"""`python -m hotseat.library`: JSON lines, and nothing else, on stdout."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
from tests.support.models import tiny_gguf, tiny_models

from hotseat.protocol.model import ModelRecord


def run(*arguments: str | Path, preexec=None) -> tuple[int, list[dict]]:
    command = [sys.executable, "-m", "hotseat.library", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=preexec,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_import_prints_progress_then_the_record(tmp_path):
    # transformers warns about this configuration: the warning must not reach stdout.
    folder = tiny_models.make_tiny(tmp_path / "tiny", "gpt_oss")
    code, lines = run("import", folder, "--home", tmp_path / "home", "--name", "g", "--context", 99)
    assert code == 0
    assert {key for line in lines[:-1] for key in line} == {"progress"}
    assert all(set(line["progress"]) == {"phase", "percent"} for line in lines[:-1])
    record = msgspec.convert(lines[-1]["record"], ModelRecord)
    assert (record.name, record.context_tokens) == ("g", 99)
    stored = (tmp_path / "home" / "models" / "g" / "model.json").read_bytes()
    assert msgspec.json.decode(stored, type=ModelRecord) == record


def test_failed_import_prints_a_typed_error_and_exits_2(tmp_path):
    (tmp_path / "notes.txt").write_text("not a model")
    code, lines = run("import", tmp_path / "notes.txt", "--home", tmp_path / "home")
    assert code == 2
    error = lines[-1]["error"]
    assert error["code"] == "model_unavailable"
    assert "neither a GGUF file nor a folder" in error["message"]
    assert error["facts"]["path"] == str(tmp_path / "notes.txt")


def test_library_chatter_does_not_reach_stdout(tmp_path):
    folder = tiny_models.make_tiny(tmp_path / "tiny", "llama")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 4]}')
    _, lines = run("import", folder, "--home", tmp_path / "home", "--name", "t")
    assert len(lines) > 1
    assert all(len(line) == 1 for line in lines)


def test_write_that_fails_is_a_typed_error_and_leaves_no_model(tmp_path):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama")
    limit = 100_000
    code, lines = run(
        "import",
        source,
        "--home",
        tmp_path / "home",
        preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert code == 2
    assert lines[-1]["error"]["code"] == "model_unavailable"
    assert [entry.name for entry in (tmp_path / "home" / "models").iterdir()] == [".import.lock"]
