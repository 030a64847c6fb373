"""A model that takes the machine down is not seated by itself for ever."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.stub_home import error_of

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.guards.rules.boots import (
    BootSeat,
    Panics,
    Unclean,
    after_reports,
    bars,
    seen_at_start,
    unread_reports,
)
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id, read_reports


def test_two_boots_with_the_same_model_bar_it():
    once = seen_at_start(BootSeat(model="a", boot="1"), Unclean(), "2")
    twice = seen_at_start(BootSeat(model="a", boot="2"), once, "3")
    assert (bars(once), bars(twice)) == (None, "a")


def test_another_model_starts_the_count_anew():
    once = seen_at_start(BootSeat(model="a", boot="1"), Unclean(), "2")
    assert seen_at_start(BootSeat(model="b", boot="2"), once, "3") == Unclean(model="b", count=1)


def test_killed_daemon_tells_nothing_about_the_machine():
    assert seen_at_start(BootSeat(model="a", boot="1"), Unclean(), "1") == Unclean()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", ""]), st.booleans()), max_size=20))
def test_only_the_model_of_the_last_two_unclean_boots_is_barred(runs):
    known, boot, went_down = Unclean(), 0, []
    for model, reboots in runs:
        seated = BootSeat(model=model, boot=str(boot))
        boot += reboots
        known = seen_at_start(seated, known, str(boot))
        if reboots and model:
            went_down.append(model)
    last = went_down[-2:]
    assert bars(known) == (last[0] if len(last) == 2 and len(set(last)) == 1 else None)


def test_marks_survive_the_daemon_and_an_orderly_end_clears_them(tmp_path):
    async def boot(number, *, ends_in_order):
        catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
        marks = BootMarks(catalogue, str(number))
        await marks.recall()
        barred = marks.barred
        await marks.note("a")
        if ends_in_order:
            await marks.note(None)
        await catalogue.close()
        return barred

    async def boots():
        first = [await boot(number, ends_in_order=False) for number in range(4)]
        return first, [await boot(number, ends_in_order=True) for number in range(4, 7)]

    first, later = asyncio.run(boots())
    assert first == [None, None, "a", "a"]
    assert later == ["a", None, None]


def test_barred_model_is_refused_with_the_way_out(tmp_path):
    marks = BootMarks(None, "3")
    vars(marks)["_unclean"] = Unclean(model="a", count=2)
    assert "hotseat swap a" in error_of(marks.refuse, "a").message
    assert marks.refuse("b") is None


PANIC = (
    'panic(cpu 4 caller 0xfffffe0): "prepare count underflow" @IOGPUMemory.cpp:550\n'
    "Panicked task 0xfffffe: 214 pages, 20 threads: pid 412: python3.13\n"
)


@pytest.mark.parametrize(
    ("report", "tells"),
    [
        (PANIC, True),
        (PANIC.replace("python3.13", "Python"), True),
        (PANIC.replace("python3.13", "ollama"), False),
        (PANIC.replace("IOGPU", "apfs"), False),
        ("", False),
    ],
)
def test_only_a_panic_that_names_iogpu_and_python_tells_of_wiring(report, tells):
    known = after_reports(Panics(), ["new"], {"new": report})
    assert known == Panics(seen=("new",), blamed="new" if tells else "")


def test_reports_from_before_the_first_look_are_seen_and_blame_nobody():
    assert unread_reports(None, ["old"]) == []
    assert after_reports(None, ["old"], {}) == Panics(seen=("old",))


NAMES = st.sets(st.sampled_from("abcdef"))


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=8), NAMES)
def test_each_report_is_read_once_and_the_first_that_tells_is_blamed(looks, telling):
    known, read, first = None, [], ""
    for present, readable in looks:
        unread = unread_reports(known, present)
        texts = {name: PANIC if name in telling else "" for name in unread if name in readable}
        known = after_reports(known, present, texts)
        first = first or next((name for name in sorted(texts) if name in telling), "")
        read += texts
        assert set(known.seen) <= present
        assert known.blamed == first
    gone_in_between = any(
        name in later and name not in now
        for name in "abcdef"
        for i, (now, _) in enumerate(looks)
        for later, _ in looks[i + 1 :]
    )
    assert gone_in_between or len(read) == len(set(read))


def test_wiring_ends_with_a_new_panic_and_an_old_one_never_counts_again(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "before.panic").write_text(PANIC)

    async def boot(number):
        catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
        marks = BootMarks(catalogue, str(number), folder)
        await marks.recall()
        found = marks.panic_report
        await catalogue.close()
        return found

    async def boots():
        found = [await boot(1)]
        (folder / "other.panic").write_text(PANIC.replace("IOGPU", "apfs"))
        found.append(await boot(2))
        (folder / "gpu.panic").write_text(PANIC)
        (folder / "gpu.ips").write_text(PANIC)
        found += [await boot(3), await boot(4)]
        (folder / "gpu.panic").unlink()
        return [*found, await boot(5)]

    assert asyncio.run(boots()) == ["", "", "gpu.panic", "gpu.panic", "gpu.panic"]


async def test_report_that_comes_after_the_start_is_found_before_a_seating(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    marks = BootMarks(catalogue, "1", tmp_path)
    await marks.recall()
    (tmp_path / "late.panic").write_text(PANIC)
    await marks.note("a")
    assert marks.panic_report == "late.panic"
    await catalogue.close()


def test_folder_that_is_not_there_holds_no_report(tmp_path):
    assert read_reports(tmp_path / "none", Panics()) == Panics()


def test_boot_of_this_machine_has_one_name():
    assert boot_id() == boot_id() != ""


class FakeLibc:
    """`sysctlbyname` of macOS as far as it is asked."""

    def __init__(self, text):
        self.text = text

    def sysctlbyname(self, name, out, _size, _new, _length):
        if self.text is None or name != b"kern.bootsessionuuid":
            return -1
        out.value = self.text
        return 0


def test_boot_of_a_mac_is_its_boot_session():
    assert boot_id(FakeLibc(b"8F3A-11")) == "8F3A-11"
    assert boot_id(FakeLibc(None)) == ""
