"""NO_COLOR takes colours away and nothing else: tables, bars and screens stay where they are."""

import pytest
from tests.support.daemons.stub_home import stub_daemon
from tests.support.daemons.terminal import COLOUR, on_terminal, plain

DAEMON = stub_daemon


def both(daemon, *arguments, **options):
    """The same command with colours and under NO_COLOR."""
    environ = {
        name: value
        for name, value in daemon.environment().items()
        if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
    }
    coloured = on_terminal(arguments, environ, **options)
    bare = on_terminal(arguments, environ | {"NO_COLOR": "1"}, **options)
    assert coloured[0] == bare[0] == 0
    return coloured[1], bare[1]


@pytest.mark.parametrize(
    "arguments",
    [("models",), ("help",), ("config", "show"), ("config", "check"), ("kv", "gc", "--dry-run")],
    ids=" ".join,
)
def test_output_is_the_same_but_for_colours(daemon, arguments):
    coloured, bare = both(daemon, *arguments)
    assert not COLOUR.search(bare)
    assert plain(bare) == plain(coloured)


def test_live_screen_stays_a_screen_and_says_by_letters_what_colours_said(daemon):
    coloured, bare = both(daemon, "top", keys=b"q", after="Ctrl-C ends")
    assert COLOUR.search(coloured) and not COLOUR.search(bare)
    assert "\x1b[?1049h" in bare and "\x1b[?1049h" in coloured  # the other screen
    for label in ("weights", "live KV", "requests", "q or Ctrl-C ends"):
        assert label in plain(bare) and label in plain(coloured)


def test_swap_keeps_its_live_line(daemon):
    environ = daemon.environment() | {"NO_COLOR": "1"}
    code, shown = on_terminal(("swap", "a"), environ)
    assert code == 0
    assert not COLOUR.search(shown)
    assert "\x1b[?25l" in shown and "\x1b[2K" in shown  # a line that is drawn and taken away
    assert "a in " in plain(shown)
