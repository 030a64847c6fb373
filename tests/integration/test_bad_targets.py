"""R7: a target that cannot be seated is a typed error with numbers; the old model serves on.

Real models and workers, through the client and the program.
"""

import json
import os
import struct
from pathlib import Path

import pytest
from tests.support.daemons.commands import cli, cli_json
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.real_home import register_heavy
from tests.support.daemons.stub_home import error_of
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.limits import MIB

MEMORY = "[memory]\nreserve_bytes = 1\n"
LIMIT = 340 * MIB
"""Holds a tiny model with its overhead of 300 MiB, and not 72 MiB of weights more."""
EXIT_MODEL_UNUSABLE = 5
UNFED = 1
"""The last token of a full answer is not in KV yet; the next turn computes it."""


def weights_of(record):
    return Path(record.path) / "model.safetensors"


def rewrite(path, change):
    """Changes a file and keeps its size and time, as a failing disk does."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    change(data)
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(record):
    weights_of(record).unlink()


def truncate(record):
    path = weights_of(record)
    os.truncate(path, path.stat().st_size // 2)


def flip_header(record):
    def change(data):
        data[12] ^= 0xFF

    rewrite(weights_of(record), change)


def rename_tensor(record):
    """The header stays JSON but names another tensor."""

    def change(data):
        place = data.index(b"lm_head")
        data[place : place + 7] = b"lm_heal"

    rewrite(weights_of(record), change)


def point_outside(record):
    """The header sends the reader behind the end of the file."""

    def change(data):
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        for entry in header.values():
            entry["data_offsets"] = [offset + (1 << 40) for offset in entry["data_offsets"]]
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > length:
            first = next(iter(header))
            text = json.dumps({first: header[first]}, separators=(",", ":")).encode()
        data[8 : 8 + length] = text.ljust(length)

    rewrite(weights_of(record), change)


def garbage(record):
    def change(data):
        data[:] = os.urandom(len(data))

    rewrite(weights_of(record), change)


def spoil_config(record):
    def change(data):
        data[:2] = b"]]"

    rewrite(Path(record.path) / "config.json", change)


def refused_everywhere(daemon, client, model, code):
    """Swap and request, from the client and the shell; the last error of the client."""
    error = error_of(client.swap, model)
    assert error.code == code
    exit_code, printed = cli_json(daemon, "swap", model)
    assert exit_code == EXIT_MODEL_UNUSABLE
    assert set(printed) == {"error"}
    assert set(printed["error"]) == {"code", "message", "retryable", "retry_after_s", "facts"}
    return error, printed["error"]


def ask(client, text):
    return client.generate(
        "a", append=[{"role": "user", "content": text}], session="agent", max_tokens=5
    ).result()


@pytest.fixture(scope="module")
def daemon():
    daemon = LiveDaemon(settings=MEMORY + f"limit_bytes = {LIMIT}\n")
    register_tiny(daemon.home, "a", "llama", seed=1)
    with daemon:
        yield daemon
        assert "Traceback" not in daemon.stderr()


class Untouched:
    """The old model's session goes on afterwards with what it had."""

    def __init__(self, client):
        self._client = client
        self._before = ask(client, "Remember this.")
        self.epoch = client.status().epoch

    def check(self):
        after = ask(self._client, "What was it?")
        status = self._client.status()
        assert (status.phase, status.model) == ("ready", "a")
        usage = self._before.usage
        held = usage.prompt_tokens + usage.completion_tokens
        assert after.usage.restored_tokens == held - UNFED
        assert after.finish_reason == "length"
        self._before = after


@pytest.mark.parametrize("spoil", [remove, truncate])
def test_target_whose_file_is_missing_or_cut_is_refused_before_anything_is_drained(
    daemon, client, spoil
):
    name = spoil.__name__
    record = register_tiny(daemon.home, name, "llama", seed=2)
    size_bytes = weights_of(record).stat().st_size
    old = Untouched(client)
    spoil(record)
    error, printed = refused_everywhere(daemon, client, name, "model_unavailable")
    assert printed["code"] == "model_unavailable"
    assert "model.safetensors" in error.message
    if spoil is truncate:
        assert str(size_bytes) in error.message
        assert str(size_bytes // 2) in error.message
    assert "import it again" in error.message
    assert client.status().epoch == old.epoch, "something was drained in vain"
    old.check()


@pytest.mark.parametrize("spoil", [flip_header, point_outside, garbage, spoil_config])
def test_target_that_is_damaged_behind_its_time_stamp_fails_and_the_old_one_comes_back(
    daemon, client, spoil
):
    name = spoil.__name__.replace("_", "-")
    record = register_tiny(daemon.home, name, "llama", seed=2)
    old = Untouched(client)
    spoil(record)
    error = error_of(client.swap, name)
    assert error.code == "model_unavailable"
    assert name in error.message and record.path in error.message
    assert (error.facts["target"], error.facts["back_to"]) == (name, "a")
    old.check()


def test_target_that_failed_twice_is_quarantined_and_says_until_when(daemon, client):
    record = register_tiny(daemon.home, "twice", "llama", seed=2)
    old = Untouched(client)
    rename_tensor(record)
    assert error_of(client.swap, "twice").code == "model_unavailable"
    code, out, err = cli(daemon, "run", "twice", "hello", "--json")
    printed = json.loads(out)["error"]
    assert (code, printed["code"]) == (EXIT_MODEL_UNUSABLE, "model_unavailable")
    assert "Traceback" not in err
    code, printed = cli_json(daemon, "swap", "twice")
    assert (code, printed["error"]["code"]) == (EXIT_MODEL_UNUSABLE, "model_quarantined")
    assert printed["error"]["retryable"]
    assert printed["error"]["retry_after_s"] > 0
    old.check()


def test_target_that_exceeds_the_budget_is_refused_with_the_numbers(daemon, client):
    record = register_heavy(daemon.home, "heavy")
    old = Untouched(client)
    error, printed = refused_everywhere(daemon, client, "heavy", "model_unfit")
    for facts in (error.facts, printed["facts"]):
        assert facts["weights_bytes"] == record.weights_bytes
        assert (facts["limit_bytes"], facts["binding"]) == (LIMIT, "cap")
        assert "limit_bytes" in facts["remedy"]
    code, view = cli_json(daemon, "plan", "heavy")
    assert (view["fits"], view["limit_bytes"]) == (False, LIMIT)
    assert code in (0, EXIT_MODEL_UNUSABLE)
    assert client.status().epoch == old.epoch, "something was drained in vain"
    old.check()


@pytest.mark.parametrize("kind", ["llama4"])
def test_target_of_an_unsupported_architecture_is_refused_with_the_reason(daemon, client, kind):
    record = register_tiny(daemon.home, kind, kind)
    assert record.unfit_reason
    old = Untouched(client)
    error, printed = refused_everywhere(daemon, client, kind, "model_unavailable")
    assert printed["code"] == "model_unavailable"
    assert record.unfit_reason in error.message
    assert error.facts["architecture"] == kind
    assert error_of(client.generate(kind, prompt="x").result).code == "model_unavailable"
    (view,) = [view for view in client.models() if view.name == kind]
    assert (view.state, view.reason) == ("unfit", record.unfit_reason)
    assert client.status().epoch == old.epoch, "something was drained in vain"
    old.check()


def test_unknown_target_names_what_is_near_and_exits_4(daemon, client):
    old = Untouched(client)
    error = error_of(client.swap, "aa")
    assert (error.code, error.facts["near"]) == ("unknown_model", ["a"])
    code, printed = cli_json(daemon, "swap", "aa")
    assert (code, printed["error"]["facts"]["near"]) == (4, ["a"])
    old.check()
