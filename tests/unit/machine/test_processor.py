"""Intel Macs are told before an installer's or a loader's words are all there is."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.machine.processor import is_intel_mac, refuse_intel_mac


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("darwin", "x86_64", True),
        ("darwin", "arm64", False),
        ("linux", "x86_64", False),
        ("linux", "aarch64", False),
    ],
)
def test_only_a_mac_without_apple_silicon_is_refused(system, machine, expected):
    assert is_intel_mac(system, machine) is expected
    if not expected:
        refuse_intel_mac(system, machine)
        return
    with pytest.raises(HotseatError) as caught:
        refuse_intel_mac(system, machine)
    assert caught.value.facts == {"machine": "x86_64"}
    assert "Apple silicon" in caught.value.message and "client works" in caught.value.message
