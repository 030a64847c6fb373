"""What `serve` does before anything is opened or started."""

import pytest

from hotseat.supervisor.daemon import serve as serving


class StopHereError(Exception):
    """Ends `serve` where the home is opened."""


def test_open_files_are_raised_before_anything_is_opened_or_started(monkeypatch):
    raised = []

    def stop(_home):
        raise StopHereError

    monkeypatch.setattr(serving.os, "umask", lambda _mask: 0)
    monkeypatch.setattr(serving.sys, "setswitchinterval", lambda _interval_s: None)
    monkeypatch.setattr(serving, "return_large_blocks", lambda: None)
    monkeypatch.setattr(serving, "raise_open_files", lambda: raised.append(True))
    monkeypatch.setattr(serving, "open_home", stop)
    with pytest.raises(StopHereError):
        serving.serve()
    assert raised
