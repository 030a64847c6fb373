"""A daemon tells whether what is on disk is still what it was started from."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.installed_code import Code
from hotseat.supervisor.machine.running_code import LOOK_S, RunningCode

OLD = Code(version="1.0", digest="old")


class Disk:
    """What is installed, and how often it was looked at."""

    def __init__(self):
        self.code, self.looks = OLD, 0

    def read(self):
        self.looks += 1
        return self.code


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def code(disk):
    return RunningCode(disk)


def test_unchanged_code_is_neither_refused_nor_noticed(code):
    code.refuse_replaced()
    assert not code.is_replaced and code.notice(0.0) == "" and code.is_of("old")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Code(version="2.0", digest="new"), "hotseat was upgraded to 2.0 while 1.0 runs"),
        (Code(version="1.0", digest="new"), "the files of hotseat 1.0 were changed"),
        (Code(version="", digest=""), "are gone or being replaced"),
    ],
)
def test_replaced_code_is_refused_with_both_versions_and_the_way_out(code, disk, now, words):
    disk.code = now
    with pytest.raises(HotseatError) as caught:
        code.refuse_replaced()
    error = caught.value
    assert (error.code, error.facts) == (
        "restart_needed",
        {"running": "1.0", "installed": now.version},
    )
    assert words in error.message and "`hotseat restart`" in error.message
    assert code.notice(0.0) == error.message


@pytest.mark.parametrize("said", ["new", ""])
def test_worker_of_other_or_unknown_code_is_not_ours(code, said):
    assert not code.is_of(said)


def test_notice_is_looked_for_now_and_then(code, disk):
    code.notice(10.0)
    looks = disk.looks
    disk.code = Code(version="2.0", digest="new")
    assert code.notice(10.0 + LOOK_S / 2) == "" and disk.looks == looks
    assert "2.0" in code.notice(10.0 + LOOK_S)


def test_files_put_back_end_the_notice(code, disk):
    disk.code = Code(version="2.0", digest="new")
    assert code.notice(0.0)
    disk.code = OLD
    assert code.notice(LOOK_S) == ""
    code.refuse_replaced()
