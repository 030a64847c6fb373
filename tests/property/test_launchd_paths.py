"""Odd paths in the property list: what is written is what is read back, or it is refused."""

import plistlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.plist_dtd import faults

from hotseat.cli.launchd.job import Job
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.home import Home

PARTS = st.lists(st.text(min_size=1).filter(lambda part: "/" not in part), min_size=1, max_size=4)
NASTY = st.sampled_from(
    [
        ["a b"],
        ["<&>\"'"],
        ["]]>"],
        ["$(rm -rf x)"],
        ["~"],
        ["ü\u0301"],
        ["%d"],
        ["\\"],
        ["--"],
        ["a:b", "c"],
        ["😀"],
    ]
)


def make(home, program):
    return Job(
        label="local.hotseat",
        program=(program,),
        home=Home(Path(home)),
        exit_time_out_s=400,
    )


@given(PARTS | NASTY, PARTS | NASTY)
def test_paths_come_back_as_they_were_or_are_refused(home_parts, program_parts):
    home, program = "/".join(["", *home_parts]), "/".join(["", *program_parts])
    try:
        data = make(home, program).plist()
    except HotseatError:
        assert not (home + program).isprintable()
        return
    plist = plistlib.loads(data)
    assert plist["EnvironmentVariables"]["HOTSEAT_HOME"] == str(Path(home))
    assert plist["ProgramArguments"] == [program, "serve"]
    search = plist["EnvironmentVariables"]["PATH"].split(":")
    assert [folder for folder in search if not folder.startswith("/")] == []
    assert faults(data) == []


@given(NASTY)
def test_printable_paths_are_never_refused(parts):
    assert make("/".join(["", *parts]), "/bin/hotseat").plist()
