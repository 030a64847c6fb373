"""A model that takes the machine down is not seated by itself for ever."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.stub_home import error_of

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.guards.rules.boots import BootSeat, Unclean, bars, seen_at_start
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id


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
