"""What bounds memory besides the machine: files of both versions of control groups, and rlimits."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.control_groups import ProcessBounds
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.memory_bounds import (
    Bound,
    GroupFiles,
    GroupPlace,
    available_within,
    cache_bytes,
    group_bound,
    group_places,
    level_of_stalls,
    stalled_percent,
    stalling_place,
    tightest,
)
from hotseat.supervisor.machine.figures import MachineMemory, within
from hotseat.supervisor.machine.memory import LinuxProbe

UNLIMITED = "9223372036854771712"
MOUNTS_1 = "35 31 0:32 / /cg/memory rw,relatime - cgroup cgroup rw,memory\n"
MOUNTS_2 = "41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n"
OTHER_MOUNT = "36 31 0:33 / /cg/cpu rw,relatime - cgroup cgroup rw,cpu\n"
STAT_1 = "cache 5\ntotal_cache 9\ntotal_inactive_file 700\ntotal_active_file 300\ntotal_dirty 100\n"
STAT_2 = "anon 1\ninactive_anon 40\ninactive_file 600\nactive_file 200\nslab_reclaimable 50\n"


def folders(places):
    return [(place.name, place.folder) for place in places]


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        (
            "4:memory:/a/b\n1:cpu:/\n0::/u\n",
            OTHER_MOUNT + MOUNTS_1 + MOUNTS_2,
            [("/a/b", "/cg/memory/a/b"), ("/a", "/cg/memory/a"), ("/", "/cg/memory")],
        ),
        (
            "0::/user.slice/x:y\n",
            MOUNTS_2,
            [
                ("/user.slice/x:y", "/cg/unified/user.slice/x:y"),
                ("/user.slice", "/cg/unified/user.slice"),
                ("/", "/cg/unified"),
            ],
        ),
        # A container without a namespace of its own: the mount shows its own group.
        (
            "0::/docker/abc\n",
            "9 8 0:1 /docker/abc /cg rw - cgroup2 cgroup rw\n",
            [("/docker/abc", "/cg")],
        ),
        # Moved out of what its namespace sees.
        ("0::/../other\n", MOUNTS_2, [("/../other", "/cg/unified")]),
        ("", MOUNTS_2, []),
        ("1:cpu:/\n", OTHER_MOUNT, []),
    ],
)
def test_groups_are_the_own_one_and_all_above(cgroup, mounts, expected):
    assert folders(group_places(cgroup, mounts)) == expected


@pytest.mark.parametrize(
    ("cgroup", "mounts", "name"),
    [
        ("4:memory:/a\n0::/a\n", MOUNTS_1 + MOUNTS_2, "/a"),
        ("4:memory:/a\n0::/\n", MOUNTS_1 + MOUNTS_2, None),  # the root tells of the machine
        ("4:memory:/a\n", MOUNTS_1, None),
        ("0::/\n", MOUNTS_2, "/"),  # a container's own group
    ],
)
def test_stalls_are_those_of_the_own_group(cgroup, mounts, name):
    place = stalling_place(cgroup, mounts)
    assert (place and place.name) == name


def one(version):
    return GroupPlace(name="/x", folder="/cg/x", version=version)


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (2, GroupFiles(limit="max\n", used="1", stat="", high="max\n"), None),
        (1, GroupFiles(limit=UNLIMITED, used="1", stat=""), None),
        (2, GroupFiles(limit="", used="", stat=""), None),
        (2, GroupFiles(limit="5000", used="2000", stat=STAT_2), (5000, 3850, None)),
        (2, GroupFiles(limit="5000", used="2000", stat="", high="3000"), (3000, 1000, None)),
        (2, GroupFiles(limit="max", used="4000", stat="", high="3000"), (3000, 0, None)),
        (2, GroupFiles(limit="5000", used="0", stat="", swap="0"), (5000, 5000, 0)),
        (2, GroupFiles(limit="5000", used="0", stat=STAT_2, swap="max"), (5000, 5000, None)),
        (1, GroupFiles(limit="5000", used="2000", stat=STAT_1), (5000, 3900, None)),
        (
            1,  # 4900 of memory and swap are used: without swap on the machine, 100 are left
            GroupFiles(limit="5000", used="2000", stat="", swap="5000", swapped="4900"),
            (5000, 100, 0),
        ),
        (
            1,
            GroupFiles(limit="5000", used="2000", stat="", swap="9000", swapped="2000"),
            (5000, 3000, 4000),
        ),
    ],
)
def test_bound_of_a_group(version, files, expected):
    bound = group_bound(one(version), files)
    found = bound and (bound.limit_bytes, bound.available_bytes, bound.swap_bytes)
    assert found == expected


def test_cache_that_has_to_be_written_first_is_not_available():
    assert cache_bytes("inactive_file 100\nfile_dirty 30\nfile_writeback 20\n") == 50
    assert cache_bytes("inactive_file 10\nfile_dirty 30\n") == 0


BOUNDS = st.builds(
    Bound,
    name=st.sampled_from("abc"),
    limit_bytes=st.integers(0, 8 * GIB),
    available_bytes=st.integers(0, 8 * GIB),
    swap_bytes=st.none() | st.integers(0, GIB),
    idle_bytes=st.integers(0, GIB),
)


@given(st.lists(BOUNDS), st.integers(1, 8 * GIB), st.floats(0, 1), st.integers(0, GIB))
def test_bounded_machine_never_has_more_than_machine_or_bound(bounds, total, share, swap):
    whole = MachineMemory(total_bytes=total, available_bytes=int(total * share))
    machine = within(whole, bounds, swap)
    within_all = available_within(bounds, whole.available_bytes)
    assert machine.available_bytes == min(within_all, machine.total_bytes)
    assert machine.total_bytes == min([total, *(bound.limit_bytes for bound in bounds)])
    assert machine.total_bytes + machine.outside_bytes == total
    assert machine.swappable_bytes <= swap
    assert (machine.bound is None) == (tightest(bounds, total) is None)


def test_bound_names_itself_as_people_read_it():
    bound = Bound(name="control group /x", limit_bytes=3 * GIB, available_bytes=0)
    assert str(bound) == "control group /x: 3.0 GiB"
    without = Bound(name="control group /x", limit_bytes=MIB, available_bytes=0, swap_bytes=0)
    assert str(without) == "control group /x: 1 MiB, none of swap"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", 1),
        (
            "some avg10=99.00 avg60=0 total=1\nfull avg10=19.99 avg60=99 total=1",
            1,
        ),
        ("some avg10=99.00 avg60=0 total=1\nfull avg10=20.00 avg60=0 total=1", 2),
        ("full avg10=60.00 avg60=0.00 avg300=0.00 total=1", 4),
    ],
)
def test_level_comes_from_the_time_in_which_all_work_waits(text, level):
    assert level_of_stalls(stalled_percent(text)) == level


class Tree:
    """A made-up file system of control groups."""

    def __init__(self, root, cgroup, mounts):
        self.root = root
        self.put("proc/cgroup", cgroup)
        self.put("proc/mountinfo", mounts)

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def probe(self):
        return LinuxProbe(ProcessBounds(f"{self.root}/proc", str(self.root)))


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path, "0::/outer/inner\n", MOUNTS_2)
    for name in ("cg/unified/outer", "cg/unified/outer/inner"):
        made.put(f"{name}/memory.max", "max\n")
        made.put(f"{name}/memory.high", "max\n")
        made.put(f"{name}/memory.current", f"{100 * MIB}\n")
        made.put(f"{name}/memory.stat", f"inactive_file {30 * MIB}\n")
    made.put("cg/unified/outer/inner/memory.pressure", "full avg10=30.00 total=9\n")
    return made


@pytest.mark.needs_linux("reads the machine's own memory")
def test_groups_without_limits_leave_the_machine_as_it_is(tree):
    machine = tree.probe().machine()
    assert (machine.bound, machine.outside_bytes, machine.swappable_bytes) == (None, 0, 0)
    assert machine.total_bytes > GIB
    assert tree.probe().pressure() is None


@pytest.mark.needs_linux("reads the machine's own memory")
def test_limit_of_a_parent_is_found_and_named(tree):
    tree.put("cg/unified/outer/memory.max", f"{256 * MIB}\n")
    machine = tree.probe().machine()
    assert machine.bound.name == "control group /outer"
    assert (machine.total_bytes, machine.available_bytes) == (256 * MIB, 186 * MIB)
    assert tree.probe().pressure() == 2


@pytest.mark.needs_linux("reads the machine's own memory")
def test_limit_is_read_anew_each_time(tree):
    probe = tree.probe()
    for limit in (256 * MIB, 128 * MIB):
        tree.put("cg/unified/outer/inner/memory.high", f"{limit}\n")
        assert probe.machine().total_bytes == limit


@pytest.mark.needs_linux("sets a limit of its own address space")
def test_limit_of_the_address_space_bounds_without_being_shared():
    code = (
        "import resource\n"
        "from hotseat.supervisor.machine.memory import LinuxProbe\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, -1))\n"
        "found = LinuxProbe().machine()\n"
        "print(found.bound, found.total_bytes, found.bound.is_group)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # How much swap there is to it is the machine's.
    assert done.stdout.startswith("RLIMIT_AS: 1.0 GiB, ")
    assert done.stdout.endswith(f" {GIB} False\n")
