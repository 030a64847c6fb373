"""Which limits the demonstration takes, where its group is made, and what it says where none is."""

import pytest
from click.testing import CliRunner

from hotseat.cli.commands.daemon import demo
from hotseat.cli.demo.control_group import ControlGroup, Place, leftovers, places
from hotseat.cli.demo.limited import LEAST_BYTES, check_limit, made, within
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB

NAME = "hotseat-demo-1"


def group_folder(parent):
    """What the kernel puts into a group of version 2 when it is made."""
    (parent / NAME).mkdir(parents=True)
    for name in ("memory.max", "cgroup.procs"):
        (parent / NAME / name).write_text("")
    return Place(version=2, memory=str(parent))


@pytest.mark.parametrize(
    ("limit", "system", "told"),
    [
        (GIB, "darwin", "hotseat plan MODEL --ram 1.0 GiB"),
        (LEAST_BYTES - MIB, "linux", "--limit 511.0 MiB is too little"),
    ],
)
def test_limit_that_cannot_be_set_is_refused_with_the_way_out(limit, system, told):
    with pytest.raises(HotseatError, match=told) as caught:
        check_limit(limit, system)
    assert caught.value.code == "invalid_request"
    check_limit(LEAST_BYTES, "linux")


def test_group_is_made_in_the_first_place_that_takes_one(tmp_path):
    usable = group_folder(tmp_path / "own")
    group = made(GIB, (Place(version=2, memory=str(tmp_path / "none")), usable), NAME)
    assert group.memory == tmp_path / "own" / NAME
    assert (group.memory / "memory.max").read_text() == str(GIB)
    assert not (group.memory / "memory.swap.max").exists()
    assert group.inside(["true"])[-1] == "true"
    assert str(group.memory / "cgroup.procs") in group.inside(["true"])[2]


@pytest.mark.parametrize("names", [(), ("none", "neither")])
def test_machine_that_takes_no_group_is_refused_with_its_reasons(tmp_path, names):
    where = tuple(Place(version=2, memory=str(tmp_path / name)) for name in names)
    with pytest.raises(HotseatError, match="-p MemoryMax=1024M hotseat demo") as caught:
        made(GIB, where, NAME)
    assert caught.value.code == "invalid_request"
    reason = "none of memory are mounted" if not names else f"{names[0]}: No such file"
    assert reason in caught.value.message


def test_places_are_the_root_of_the_hierarchy_and_the_own_group(tmp_path):
    (tmp_path / "cgroup").write_text("0::/user.slice/mine\n")
    (tmp_path / "mountinfo").write_text("30 24 0:26 / /groups rw - cgroup2 cgroup2 rw,nsdelegate\n")
    assert [place.memory for place in places(tmp_path)] == [
        "/groups",
        "/groups/user.slice/mine",
    ]
    assert places(tmp_path / "none") == ()


def test_only_groups_whose_process_is_gone_are_left_over(tmp_path):
    for name in ("hotseat-demo-999999999", "hotseat-demo-1", "other-999999999"):
        (tmp_path / name).mkdir()
    place = Place(version=2, memory=str(tmp_path))
    assert leftovers(place, "hotseat-demo-") == ["hotseat-demo-999999999"]


def test_version_one_leaves_swap_alone_unless_it_is_asked_for(tmp_path):
    group = ControlGroup(Place(version=1, memory=str(tmp_path)), NAME)
    group.memory.mkdir()
    group.limit(GIB)
    assert (group.memory / "memory.limit_in_bytes").read_text() == str(GIB)
    assert not (group.memory / "memory.memsw.limit_in_bytes").exists()
    group.limit(GIB, MIB)
    assert (group.memory / "memory.memsw.limit_in_bytes").read_text() == str(GIB + MIB)


def test_without_a_limit_nothing_is_made():
    with within(None) as begin:
        assert begin == []


def test_limit_belongs_to_the_five_phases():
    said = CliRunner().invoke(demo, ["--limit", "1GiB"])
    assert said.exit_code == 2
    assert "--five-phases" in said.output
