"""What the doctor says of Metal's limit: switch, what a worker was told, or about the default."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from hotseat.cli.checks import all_checks
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("20480\n", "is set: 20.0 GiB"),
        ("0\n", "about 17.8 GiB for a process"),
        ("", "about 17.8 GiB for a process"),
        ("unknown oid\n", "about 17.8 GiB for a process"),
    ],
)
def test_switch_or_default_is_said(monkeypatch, said, text):
    monkeypatch.setattr(all_checks.sys, "platform", "darwin")
    run = lambda *_args, **_options: SimpleNamespace(stdout=said)  # noqa: E731
    monkeypatch.setattr(all_checks.subprocess, "run", run)
    (found,) = all_checks._metal_limit(24 * GIB)
    assert text in found.text


class Told:
    """A daemon whose first model cannot be planned."""

    welcome = None

    def status(self):
        return SimpleNamespace(
            version="1", pid=1, phase="READY", last_error="", notices=(), gpu_errors=0
        )

    def models(self):
        return [SimpleNamespace(name=name, state="ready", reason="") for name in ("bad", "good")]

    def plan(self, name):
        if name == "bad":
            raise HotseatError("model_unavailable", "it is damaged")
        return SimpleNamespace(working_set_bytes=17 * GIB)


def test_real_limit_is_shown_once_a_worker_said_it(monkeypatch):
    monkeypatch.setattr(all_checks, "connected", lambda: nullcontext(Told()))
    found = {finding.name: finding for finding in all_checks.check_daemon(None)}
    assert found["metal limit"].text == "17.0 GiB for a process, as Metal told a worker"
