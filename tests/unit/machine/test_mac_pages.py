"""Available memory as macOS means it, from page counts of Macs that people showed in public.

`vm_stat` prints free pages without the speculative ones; the kernel counts them in.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.peers.mac_host import PAGE, FakeMacLibc, mac_host

from hotseat.protocol.limits import GIB
from hotseat.protocol.telemetry import MemoryPages
from hotseat.supervisor.machine.figures import available_bytes, idle_bytes
from hotseat.supervisor.machine.mach import MachHost, VmStatistics64
from hotseat.supervisor.machine.memory import MacProbe

NAMES = (
    "free_count",
    "active_count",
    "inactive_count",
    "speculative_count",
    "wire_count",
    "purgeable_count",
    "external_page_count",
    "internal_page_count",
    "compressor_page_count",
)


def counts(free, active, inactive, speculative, *rest):
    """As `vm_stat` prints them, in the kernel's own terms."""
    return dict(zip(NAMES, (free + speculative, active, inactive, speculative, *rest), strict=True))


BUSY_24 = counts(3857, 446_206, 443_760, 1075, 181_483, 17_340, 294_894, 596_147, 442_179)
"""HMCL-dev/HMCL#4876: a desktop in use for days, much of it compressed."""
CALM_16 = counts(129_780, 281_638, 273_368, 7622, 136_267, 21_173, 218_388, 344_240, 184_956)
"""A laptop of 16 GiB with a server of models on it that is not running."""
LARGE_48 = counts(101_836, 1_083_166, 1_075_975, 9442, 235_560, 14_889, 729_008, 1_439_575, 579_237)
"""A 48 GiB Mac that has read large files."""


def probe(total_gib, found, level=1):
    return MacProbe(object(), mac_host(total=total_gib * GIB, level=level, **found))


@pytest.mark.parametrize(
    ("total_gib", "found", "available_pages", "psutil_pages"),
    [
        (24, BUSY_24, 370_395, 447_617),  # too much by 1.2 GiB: inactive memory of programs
        (16, CALM_16, 404_286, 403_148),
        (48, LARGE_48, 906_245, 1_177_811),
    ],
)
def test_available_is_all_but_programs_wired_and_compressor(
    total_gib, found, available_pages, psutil_pages
):
    machine = probe(total_gib, found).machine()
    assert machine.available_bytes == available_pages * PAGE
    assert machine.total_bytes == total_gib * GIB
    assert machine.wired_bytes == found["wire_count"] * PAGE
    # What psutil calls available, and hotseat did: the number this one is not.
    free = found["free_count"] - found["speculative_count"]
    assert found["inactive_count"] + free == psutil_pages


@pytest.mark.parametrize("hashed_gib", [0, 11, 16])
def test_files_that_were_read_take_nothing_away(hashed_gib):
    """Layr-Labs/d-inference#743: 13 weight files hashed, and 48 GB "shrank" from 33.5 to 17.1."""
    cached = hashed_gib * GIB // PAGE
    found = counts(
        2_000_000 - cached, 400_000 + cached, 200_000, 0, 150_000, 0, 200_000 + cached, 400_000, 0
    )
    assert probe(48, found).machine().available_bytes == 48 * GIB - 550_000 * PAGE
    by_psutil = found["free_count"] + found["inactive_count"]
    assert by_psutil == 2_200_000 - cached


@pytest.mark.parametrize(
    ("wired_gb", "compressed_gb", "available_gb"), [(3.6, 1.3, 19.1), (3.5, 9.8, 10.7)]
)
def test_compressor_of_a_long_session_is_not_available(wired_gb, compressed_gb, available_gb):
    """john-rocky/apple-silicon-llm-bench#7: one 24 GB Mac, nine days apart, nothing open."""
    found = counts(
        100_000,
        0,
        0,
        0,
        round(wired_gb * 1e9) // PAGE,
        0,
        0,
        0,
        round(compressed_gb * 1e9) // PAGE,
    )
    held = MacProbe(object(), mac_host(total=24_000_000_000, **found)).machine()
    assert held.available_bytes / 1e9 == pytest.approx(available_gb, abs=0.05)


def test_classes_are_those_that_vm_stat_prints():
    pages = mac_host(**BUSY_24).pages()
    assert pages == MemoryPages(
        free_bytes=3857 * PAGE,
        active_bytes=446_206 * PAGE,
        inactive_bytes=443_760 * PAGE,
        speculative_bytes=1075 * PAGE,
        wired_bytes=181_483 * PAGE,
        compressed_bytes=442_179 * PAGE,
        anonymous_bytes=596_147 * PAGE,
        file_backed_bytes=294_894 * PAGE,
        purgeable_bytes=17_340 * PAGE,
    )
    # Every page a program or a file has is active, inactive or speculative.
    told_apart = pages.anonymous_bytes + pages.file_backed_bytes
    assert told_apart == pages.active_bytes + pages.inactive_bytes + pages.speculative_bytes


def test_idle_memory_of_programs_is_what_no_cache_explains():
    pages = mac_host(**BUSY_24).pages()
    assert idle_bytes(pages) == (443_760 + 1075 - 294_894 - 17_340) * PAGE


def test_level_comes_with_the_counts():
    assert probe(24, BUSY_24, level=4).machine().pressure == 4


def test_kernel_that_refuses_leaves_the_estimate_of_psutil():
    libc = FakeMacLibc()
    libc.counts = None
    machine = MacProbe(object(), MachHost(libc, page_bytes=PAGE)).machine()
    assert (machine.pages, machine.pressure, machine.wired_bytes) == (None, None, None)
    assert 0 < machine.available_bytes <= machine.total_bytes


def test_structure_has_each_class_where_the_kernel_puts_it():
    """Offsets of <mach/vm_statistics.h>."""
    at = {name: getattr(VmStatistics64, name).offset for name in NAMES}
    assert [at[name] for name in NAMES[:3]] == [0, 4, 8]
    assert at["wire_count"] == 12
    assert (at["purgeable_count"], at["speculative_count"]) == (16 + 9 * 8, 16 + 9 * 8 + 4)
    assert at["compressor_page_count"] == 16 + 9 * 8 + 2 * 4 + 4 * 8
    assert at["external_page_count"] == at["compressor_page_count"] + 8
    assert at["internal_page_count"] == at["external_page_count"] + 4


PAGES = st.builds(
    MemoryPages, **dict.fromkeys(MemoryPages.__struct_fields__, st.integers(0, 64 * GIB))
)


@given(st.integers(1, 64 * GIB), PAGES)
def test_available_is_never_negative_nor_more_than_there_is(total, pages):
    assert 0 <= available_bytes(total, pages) <= total
    assert 0 <= idle_bytes(pages) <= pages.inactive_bytes + pages.speculative_bytes


@given(PAGES, st.integers(0, GIB))
def test_page_of_a_program_is_never_available_wherever_it_is(pages, moved):
    """Ageing from active to inactive frees nothing."""
    aged = MemoryPages(
        **{name: getattr(pages, name) for name in pages.__struct_fields__}
        | {
            "active_bytes": pages.active_bytes - min(moved, pages.active_bytes),
            "inactive_bytes": pages.inactive_bytes + min(moved, pages.active_bytes),
        }
    )
    assert available_bytes(64 * GIB, aged) == available_bytes(64 * GIB, pages)
